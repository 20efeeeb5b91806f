"""What data plug-ins share: splits, the cache of decoded tensors, text as windows of characters."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedjourney.data import Dataset, Examples
from fedjourney.errors import DataError
from fedjourney.seeds import permutation, seed_for

CODE = 1  # part of every cache key: raise it when decoding changes
SPLITS = ("train", "validation", "test")


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
        return _examples({key: value[rows] for key, value in x.items()}, {"label": labels[rows]})

    parts = (examples(rest), examples(validated), _examples(test_x, {"label": test_y}))
    kept = {"label": labels} | columns
    return Dataset(name, *parts, {key: value[rest] for key, value in kept.items()}, classes, fingerprint(parts))


def texts(name: str, by_owner: dict[str, str], column: str, length: int, validation: float, test: float) -> Dataset:
    """Return next-character examples: windows of `length` characters within each owner's text, in order.

    The last windows of each owner go to validation and test; an owner with too few gives only to train.

    Raises:
        DataError: no text is long enough for one window.
    """
    vocabulary = "".join(sorted(set("".join(by_owner.values()))))
    code = np.zeros(max(map(ord, vocabulary), default=0) + 1, dtype=np.int64)
    code[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))
    windows: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    owners: list[str] = []
    for owner, text in by_owner.items():
        tokens = code[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
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
        parts.append(_examples({"tokens": rows[:, :-1]}, {"next": rows[:, 1:]}))
    return Dataset(
        name,
        parts[0],
        parts[1],
        parts[2],
        {column: np.array(owners)},
        len(vocabulary),
        fingerprint(tuple(parts)),
        vocabulary,
    )


def _examples(x: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> Examples:
    def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}

    return Examples(tensors(x), tensors(y))


def fingerprint(parts: tuple[Examples, ...]) -> str:
    state = hashlib.sha256()
    for part in parts:
        for name, tensor in (part.x | part.y).items():
            array = tensor.numpy()
            state.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            state.update(array.data)
    return state.hexdigest()


def file_key(path: Path) -> list[Any]:
    """Return what tells one state of a file from another."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def cached(folder: Path, key: list[Any], decode: Callable[[], Dataset]) -> Dataset:
    """Return the decoded set from the cache, mapped so that processes share its pages, or decode and keep it.

    A damaged or unwritable cache costs time, never the run.
    """
    place = folder / hashlib.sha256(json.dumps([CODE, *key], default=str).encode()).hexdigest()[:32]
    try:
        return _read(place)
    except (OSError, ValueError, KeyError):
        dataset = decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            _write(temporary, dataset)
            if place.exists():
                shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        pass  # no room or no right to keep it: decoded again next time
    return dataset


def _write(folder: Path, dataset: Dataset) -> None:
    for split in SPLITS:
        part: Examples = getattr(dataset, split)
        for group in ("x", "y"):
            for name, tensor in getattr(part, group).items():
                np.save(folder / f"{split}.{group}.{name}.npy", tensor.numpy())
    for name, column in dataset.columns.items():
        np.save(folder / f"columns.{name}.npy", column)
    first = dataset.train
    facts = {
        "name": dataset.name,
        "classes": dataset.classes,
        "fingerprint": dataset.fingerprint,
        "vocabulary": dataset.vocabulary,
        "x": list(first.x),
        "y": list(first.y),
        "columns": list(dataset.columns),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def _read(folder: Path) -> Dataset:
    facts = json.loads((folder / "facts.json").read_text())

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))

    parts = [
        Examples(
            {name: tensor(f"{split}.x.{name}") for name in facts["x"]},
            {name: tensor(f"{split}.y.{name}") for name in facts["y"]},
        )
        for split in SPLITS
    ]
    columns = {name: np.load(folder / f"columns.{name}.npy") for name in facts["columns"]}
    return Dataset(
        facts["name"],
        parts[0],
        parts[1],
        parts[2],
        columns,
        facts["classes"],
        facts["fingerprint"],
        facts["vocabulary"],
    )
