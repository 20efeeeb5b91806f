"""What data plug-ins share: labels that can be learned, splits, text as windows of characters."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Le

from fedjourney.data import BYTES, MOST_CLASSES, Dataset, Examples
from fedjourney.data._cache import SPLITS
from fedjourney.errors import DataError
from fedjourney.seeds import permutation, seed_for, uniform

Characters: TypeAlias = Literal["found", "bytes"]
SequenceLength: TypeAlias = Annotated[int, Ge(1), Le(1_000_000)]


def whole_labels(values: np.ndarray, where: str, row: Callable[[int], str] = "row {}".format) -> np.ndarray:
    """Return labels [n] as int64.

    Args:
        values: of any type of number.
        where: table, file and column, as the message begins.
        row: what to call row i.

    Raises:
        DataError: the first that is no class, where it stands, and its true value (not what int64 would make of it).
    """
    with np.errstate(invalid="ignore", over="ignore"):  # float16 holds no 100000, and NaN compares to nothing
        bad = ~((values >= 0) & (values < MOST_CLASSES))
        if values.dtype.kind == "f":
            bad |= values != np.floor(values)
    if bad.any():
        first = int(np.argmax(bad))
        got = values[first].item()
        raise DataError(
            f"{where}, {row(first)}: expected as label a whole number from 0 to {MOST_CLASSES - 1} "
            f"(0, 1, 2, …: classes), got {got}. Remove or relabel such rows ({int(bad.sum())} of {len(values)})."
        )
    return values.astype(np.int64)


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a mask [n] of `share` of the rows, drawn evenly over the sorted labels."""
    chosen = np.zeros(len(labels), dtype=bool)
    count = round(share * len(labels))
    if count:
        order = permutation(seed, len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        chosen[order[(np.arange(count) * len(labels)) // count]] = True
    return chosen


def labelled(
    name: str,
    x: dict[str, np.ndarray],
    labels: np.ndarray,
    columns: dict[str, np.ndarray],
    seed: int,
    validation: float,
    test: float | tuple[dict[str, np.ndarray], np.ndarray],
) -> Dataset:
    """Return a classification set, split by label; `test` is a share of the rows, or a test set of its own.

    Raises:
        DataError: no example is left to train on, or labels are negative.
    """
    if len(labels) == 0:
        raise DataError(f"{name}: expected examples, got none.")
    if labels.min() < 0:
        raise DataError(f"{name}: expected labels 0, 1, 2, …, got {int(labels.min())}. Remove or relabel those rows.")
    rest = np.ones(len(labels), dtype=bool)
    if isinstance(test, float):
        tested = stratified(labels, test, seed_for(seed, "test"))
        rest &= ~tested
        test_x, test_y = {key: value[tested] for key, value in x.items()}, labels[tested]
    else:
        test_x, test_y = test
    validated = np.zeros(len(labels), dtype=bool)
    validated[np.flatnonzero(rest)[stratified(labels[rest], validation, seed_for(seed, "validation"))]] = True
    rest &= ~validated
    if not rest.any():
        raise DataError(f"{name}: expected examples to train on, got none. Lower [data] validation or test.")
    classes = int(max(labels.max(), test_y.max() if len(test_y) else 0)) + 1

    def examples(rows: np.ndarray) -> Examples:
        return examples_of({key: value[rows] for key, value in x.items()}, {"label": labels[rows]})

    parts = (examples(rest), examples(validated), examples_of(test_x, {"label": test_y}))
    kept = {"label": labels} | columns
    return Dataset(name, *parts, {key: value[rest] for key, value in kept.items()}, classes, fingerprint_of(parts))


def texts(
    name: str,
    by_owner: dict[str, str],
    column: str,
    length: int,
    validation: float,
    test: float,
    characters: Characters = "found",
) -> Dataset:
    """Return next-character examples: windows of `length` characters within each owner's text, in order.

    The last windows of each owner go to validation and test; an owner with too few gives only to train.
    Characters are numbered as they are found over all owners, or are the 258 codes of `BYTES`, known beforehand.

    Raises:
        DataError: no text is long enough for one window.
    """
    vocabulary = BYTES if characters == "bytes" else "".join(sorted(set("".join(by_owner.values()))))
    code = np.zeros(max(map(ord, vocabulary), default=0) + 1, dtype=np.int64)
    code[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))

    def encoded(text: str) -> np.ndarray:
        if characters == "bytes":
            return np.concatenate([[256], np.frombuffer(text.encode("utf-8"), dtype=np.uint8), [257]]).astype(np.int64)
        return code[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]

    windows: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    owners: list[str] = []
    for owner, text in by_owner.items():
        tokens = encoded(text)
        count = max(len(tokens) - 1, 0) // length
        rows = np.stack([tokens[i * length : (i + 1) * length + 1] for i in range(count)]) if count else None
        if rows is None:
            continue
        tested, validated = int(test * count), int(validation * count)
        train = count - tested - validated
        windows["train"].append(rows[:train])
        windows["validation"].append(rows[train : train + validated])
        windows["test"].append(rows[train + validated :])
        owners += [owner] * train
    if not owners:
        raise DataError(
            f"{name}: expected texts of more than {length} characters, got none. Lower [data] sequence_length."
        )
    parts = []
    for split in SPLITS:
        rows = np.concatenate(windows[split])
        parts.append(examples_of({"tokens": rows[:, :-1]}, {"next": rows[:, 1:]}))
    return Dataset(
        name,
        parts[0],
        parts[1],
        parts[2],
        {column: np.array(owners)},
        len(vocabulary),
        fingerprint_of(tuple(parts)),
        vocabulary,
    )


def examples_of(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> Examples:
    def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}

    return Examples(tensors(x), tensors(y))


def fingerprint_of(parts: tuple[Examples, ...]) -> str:
    """Return sha256 over all examples."""
    state = hashlib.sha256()
    for part in parts:
        for name, tensor in (part.x | part.y).items():
            array = tensor.numpy()
            state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            state.update(array.data)
    return state.hexdigest()


def evenly(count: int, seed: int) -> np.ndarray:
    """Return numbers in [-1, 1), one in each of `count` equal parts, in a drawn order: a Latin hypercube's column."""
    within = uniform(torch.tensor(seed), count).double().numpy()
    return 2 * (permutation(seed, count) + within) / count - 1
