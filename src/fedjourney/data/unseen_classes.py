"""Sheets of images by class; those of validation and test are never trained on."""

from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._affine import rotation, warped
from fedjourney.data._cache import cached
from fedjourney.data._common import fingerprint_of
from fedjourney.data._glyphs import glyphs
from fedjourney.data._hub import column_named, input_column, tables_of
from fedjourney.errors import DataError
from fedjourney.seeds import permutation, seed_for, uniforms


def unseen_classes(
    source: Source,
    /,
    *,
    set: str = "",
    subset: str = "",
    target: list[str] = [],  # noqa: B006
    owner: str = "",
    side: Annotated[int, Ge(4), Le(4_096)] = 28,
    test_classes: Annotated[int, Ge(2), Le(100_000)] = 3,
    validation_classes: Annotated[int, Ge(0), Le(100_000)] = 2,
    test_owners: Annotated[int, Ge(0), Le(100_000)] = 0,
    groups: Annotated[int, Ge(2), Le(1_000)] = 2,
    images: Annotated[int, Ge(2), Le(1_000)] = 4,
    distorted: bool = False,
    turned: bool = False,
    limit: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
) -> Dataset:
    """Sheets of images by class, for task `verification`; classes of validation and test are never trained on.

    An example is a sheet: `groups` classes, of each `images` images (and their classes as targets). A training sheet's
    images are of one owner; a test sheet's are of any owners that never train. The last classes, in their order, are
    those of test, those before them of validation; the last owners are those of test. Column "first_label", by
    which partitions can deal sheets, is the class of a sheet's first group.

    Args:
        source: data root, cache, seed of how sheets are put together.
        set: scikit-learn's digits by default; "glyphs": 200 letters of no alphabet by 12 drawers, generated; or a set
            of dark drawings on white by its hub name.
        subset: the configuration of the hub's set.
        target: columns that make up a class (default: "label").
        owner: column that says whose an image is; column of the same name for `natural`. Default: nobody's.
        side: pixels a side that a hub's images are scaled to.
        test_classes: how many classes are kept for test.
        validation_classes: how many are kept for validation (2 or more, or none).
        test_owners: how many owners are kept for validation and test; there, only their images are shown.
        groups: classes on a sheet.
        images: images of each class on a sheet.
        distorted: fill up a group of an owner that has fewer images of a class with turned, sheared, stretched and
            shifted copies of them, as in Koch et al. 2015, Siamese Neural Networks for One-shot Image Recognition,
            section 4.2; without it such a class is left out for that owner.
        turned: a training class turned by 90, 180 and 270 degrees makes three more classes, as in Santoro et al. 2016,
            Meta-Learning with Memory-Augmented Neural Networks, section 4.1.
        limit: rows kept of a hub's set, 0 = all.
    """
    key: list[Any]
    here = {"": _digits, "glyphs": lambda: glyphs(source.seed)}.get(set)
    if here is None:
        key, read = tables_of(source, set, subset, limit)
    else:
        key = [set or "digits"]

    def decode() -> Dataset:
        pixels, classes, owners = _of_hub(read(), set, target, owner, side) if here is None else here()
        return _sheets(
            f"unseen_classes of {set or 'digits'}", pixels, classes, owners, owner, source.seed,
            test_classes, validation_classes, test_owners, groups, images, distorted, turned,
        )  # fmt: skip

    options = [set, subset, target, owner, side, test_classes, validation_classes, test_owners, groups, images]
    return cached(source.cache_dir, ["unseen_classes", key, options, distorted, turned, limit, source.seed], decode)


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images / 16).astype(np.float32)[:, None]
    return pixels, found.target.astype(np.int64), np.zeros(len(pixels), dtype=np.int64)


def _of_hub(
    tables: dict[str, Any], name: str, target: list[str], owner: str, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (images with ink = 1 [n, 1, side, side], classes [n], owners [n]); both numbered in sorted order.

    Raises:
        DataError: a column is missing, or an image cannot be decoded.
    """
    import io

    from PIL import Image, UnidentifiedImageError

    table = tables["train"]
    column = input_column(table, "", name)
    pixels = np.empty((table.num_rows, 1, side, side), dtype=np.float32)
    for row, cell in enumerate(table[column].to_pylist()):
        try:
            image = Image.open(io.BytesIO(cell["bytes"])).convert("L").resize((side, side), Image.Resampling.BOX)
        except (UnidentifiedImageError, OSError, TypeError, KeyError) as error:
            raise DataError(f'set "{name}" row {row}: expected an image, cannot be decoded ({error}).') from None
        pixels[row, 0] = 1 - np.asarray(image, dtype=np.float32) / 255
    parts = [table[column_named(table, one, name, "target")].to_pylist() for one in target or ["label"]]
    _, classes = np.unique(
        [f"{'/'.join(map(_sortable, row))}" for row in zip(*parts, strict=True)], return_inverse=True
    )
    owners = np.zeros(len(pixels), dtype=np.int64)
    if owner:
        whose = table[column_named(table, owner, name, "owner")].to_pylist()
        _, owners = np.unique([_sortable(one) for one in whose], return_inverse=True)
    return pixels, classes, owners


def _sortable(value: Any) -> str:
    return f"{value:09d}" if isinstance(value, int) else str(value)


def _sheets(
    name: str,
    pixels: np.ndarray,
    classes: np.ndarray,
    owners: np.ndarray,
    owner: str,
    seed: int,
    test_classes: int,
    validation_classes: int,
    test_owners: int,
    groups: int,
    images: int,
    distorted: bool,
    turned: bool,
) -> Dataset:
    """Return the set; see `unseen_classes`."""
    count, people = int(classes.max()) + 1, int(owners.max()) + 1
    known = count
    trained = count - test_classes - validation_classes
    if trained < 2 or validation_classes == 1:
        raise DataError(
            f"{name}: expected [data] test_classes and validation_classes (2 or more, or none) that leave 2 or more "
            f"of the {count} classes to train on, got {test_classes} and {validation_classes}."
        )
    if test_owners >= people and test_owners:
        raise DataError(f"{name}: expected [data] test_owners below the {people} owners, got {test_owners}.")
    first = people - test_owners
    of: dict[str, Iterable[int]] = {"train": range(trained), "validation": range(trained, count - test_classes)}
    of["test"] = range(count - test_classes, count)
    if turned:
        rows = np.flatnonzero(classes < trained)
        pixels = np.concatenate([pixels, *(np.rot90(pixels[rows], turns, (2, 3)) for turns in (1, 2, 3))])
        classes = np.concatenate([classes, *(classes[rows] + known + trained * turns for turns in range(3))])
        owners = np.concatenate([owners, *[owners[rows]] * 3])
        of["train"] = [*range(trained), *range(known, known + 3 * trained)]
        count = known + 3 * trained
    parts: list[Examples] = []
    for split, kinds in of.items():
        sheets: list[np.ndarray] = []
        whose: list[int] = []
        new: list[np.ndarray] = []  # distorted copies, numbered after the images
        drawers = range(first) if split == "train" else [-1]
        for person in drawers:
            held = owners == person if split == "train" else owners >= (first if test_owners else 0)
            stacks: dict[int, list[np.ndarray]] = {}
            for kind in kinds:
                rows = np.flatnonzero(held & (classes == kind))
                rows = rows[permutation(seed_for(seed, split, person, kind), len(rows))]
                stacks[kind] = [rows[i : i + images] for i in range(0, len(rows) - images + 1, images)]
                if distorted and split == "train" and 0 < len(rows) < images:
                    copied = rows[np.arange(images - len(rows)) % len(rows)]
                    made = _distorted(pixels[copied], seed_for(seed, "distorted", person, kind))
                    numbers = len(pixels) + sum(map(len, new)) + np.arange(len(made))
                    new.append(made)
                    stacks[kind] = [np.concatenate([rows, numbers])]
            dealt = _dealt(stacks, groups, seed_for(seed, split, "sheets", person))
            sheets += dealt
            whose += [person] * len(dealt)
        more = "set distorted = true" if split == "train" else f"raise {split}_classes"
        if not sheets and (split != "validation" or validation_classes):
            raise DataError(
                f"{name}, {split}: expected {groups} classes with {images} images on a sheet, there are not that many. "
                f"Lower [data] groups or images, or {more}."
            )
        every = np.concatenate([pixels, *new]) if new else pixels
        rows = np.stack(sheets) if sheets else np.zeros((0, groups, images), dtype=np.int64)
        shown = torch.from_numpy(every[rows])
        kept = np.where(rows < len(pixels), rows, rows[..., :1])  # a copy's class is that of its group
        parts.append(Examples({"images": shown}, {"classes": torch.from_numpy(classes[kept].astype(np.int64))}))
        if split == "train":
            columns = {"first_label": parts[0].y["classes"][:, 0, 0].numpy().copy()}
            columns |= {owner: np.array(whose)} if owner else {}
    return Dataset(name, parts[0], parts[1], parts[2], columns, count, fingerprint_of((parts[0], parts[1], parts[2])))


def _dealt(stacks: dict[int, list[np.ndarray]], groups: int, seed: int) -> list[np.ndarray]:
    """Return sheets [groups, images] of unlike classes: always those with most groups left, ties in a seeded order."""
    order = permutation(seed, max(stacks, default=0) + 1)
    left = {kind: list(stack) for kind, stack in stacks.items() if stack}
    sheets = []
    while sum(1 for stack in left.values() if stack) >= groups:
        kinds = sorted(left, key=lambda kind: (-len(left[kind]), order[kind]))[:groups]
        sheets.append(np.stack([left[kind].pop() for kind in kinds]))
        order = np.roll(order, 1)  # the same two classes do not always meet
    return sheets


def _distorted(images: np.ndarray, seed: int) -> np.ndarray:
    """Return copies turned by up to 15 degrees, sheared by 0.2, scaled by 0.8 to 1.2, shifted by 2 of 28 pixels."""
    drawn = 2 * uniforms(seed, 6 * len(images)).reshape(6, -1) - 1
    sources = rotation(15 * drawn[0])
    stretched = np.zeros_like(sources)
    stretched[:, 0, 0], stretched[:, 1, 1] = 1 / (1 + 0.2 * drawn[1]), 1 / (1 + 0.2 * drawn[2])
    stretched[:, 0, 1] = 0.2 * drawn[3]
    return warped(images, sources @ stretched, (drawn[4:] * images.shape[-1] * 2 / 28).T)
