"""Handwritten digits turned by known angles."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._affine import inscribed, rotation, warped
from fedjourney.data._cache import cached
from fedjourney.data._common import fingerprint_of, labelled
from fedjourney.data._hub import column_named, input_column, tables_of, whole_numbers
from fedjourney.data._images import pixels
from fedjourney.seeds import seed_for, uniforms


def rotated_digits(
    source: Source,
    /,
    *,
    set: str = "",
    subset: str = "",
    largest: Annotated[float, Gt(0), Le(180)] = 60.0,
    ranges: Annotated[int, Ge(1), Le(1_000)] = 10,
    copies: Annotated[int, Ge(1), Le(1_000)] = 1,
    limit: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
    validation: Annotated[float, Ge(0), Lt(1)] = 0.1,
    test: Annotated[float, Ge(0), Lt(1)] = 0.2,
) -> Dataset:
    """Handwritten digits turned by angles that are to be told; column "range" says in which part an angle lies.

    The target is the angle in degrees, counter-clockwise, uniform between -`largest` and `largest`. Images are split
    before they are turned, so no digit stands in two splits, and show what lies in their inscribed circle, so that the
    frame does not give the angle away. `natural` or `shards` by "range" give every client angles of its own.

    Args:
        source: data root, cache, seed of splits and angles.
        set: scikit-learn's 1,797 digits of 8x8 pixels by default, or a set of images by its hub name ("ylecun/mnist").
        subset: the configuration of the hub's set.
        largest: angle; beyond 90 some digits cannot be told from others turned further. Near 180 the two ends are one
            picture, and task `regression`, which does not wrap errors, counts them as 360 apart.
        ranges: equal parts of the angles, which column "range" numbers from the smallest.
        copies: of each image, turned by different angles.
        limit: rows kept of each split of a hub's set, 0 = all.
        validation: share of the training images.
        test: share of all images, where the set has no test split of its own.
    """
    if not set:
        from sklearn.datasets import load_digits

        found = load_digits()
        base = {"image": (found.images / 16).astype(np.float32)[:, None]}
        return _turned(
            labelled("rotated_digits", base, found.target.astype(np.int64), {}, source.seed, validation, test),
            source.seed, largest, ranges, copies,
        )  # fmt: skip
    key, read = tables_of(source, set, subset, limit)

    def decode() -> Dataset:
        tables = read()
        column = input_column(tables["train"], "", set)
        parts = {
            split: ({"image": pixels(table[column], 0.0, 1.0, set)},
                    whole_numbers(table, column_named(table, "label", set, "target"), set))
            for split, table in tables.items()
        }  # fmt: skip
        x, labels = parts["train"]
        name = f"rotated_digits of {set}"
        whole = labelled(name, x, labels, {}, source.seed, validation, parts.get("test", test))
        return _turned(whole, source.seed, largest, ranges, copies)

    options = [set, subset, largest, ranges, copies, limit, validation, test, source.seed]
    return cached(source.cache_dir, ["rotated_digits", key, options], decode)


def _turned(base: Dataset, seed: int, largest: float, ranges: int, copies: int) -> Dataset:
    """Return the set with every image turned by its own angle."""
    parts, angles = [], {}
    for split in ("train", "validation", "test"):
        pixels = np.repeat(getattr(base, split).x["image"].numpy(), copies, axis=0)
        drawn = (2 * uniforms(seed_for(seed, "angles", split), len(pixels)) - 1) * largest
        angles[split] = drawn
        image = torch.from_numpy(inscribed(warped(pixels, rotation(drawn))))
        parts.append(Examples({"image": image}, {"angle": torch.from_numpy(drawn.astype(np.float32))}))
    columns = {
        "digit": np.repeat(base.columns["label"], copies),
        "range": np.minimum((angles["train"] + largest) / (2 * largest) * ranges, ranges - 1).astype(np.int64),
    }
    return Dataset(base.name, parts[0], parts[1], parts[2], columns, 0, fingerprint_of((parts[0], parts[1], parts[2])))
