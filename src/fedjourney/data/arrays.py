"""A person's own arrays or table."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import cached, file_key
from fedjourney.data._common import labelled, whole_labels
from fedjourney.data._tables import Table, from_csv, from_npz
from fedjourney.errors import DataError


def arrays(
    source: Source,
    /,
    *,
    path: str,
    input: str = "x",
    target: str = "",
    columns: list[str] = [],  # noqa: B006  (copied by pydantic, never changed)
    validation: Annotated[float, Ge(0), Lt(1)] = 0.1,
    test: Annotated[float, Ge(0), Lt(1)] = 0.2,
) -> Dataset:
    """Your own `.npz` (arrays x and y) or `.csv` (a header; all columns but the target are features).

    Args:
        source: base of a relative path, cache, seed of the splits.
        path: the file.
        input: name of the inputs in an .npz: [n, features], [n, height, width] or [n, channels, height, width].
        target: name of the labels; default "y" in an .npz, "label" in a .csv.
        columns: further columns that a partition may deal by (`by`), no features: of a .csv any, compared as text; of
            an .npz arrays [n] of whole numbers, true and false, or text.
        validation: share of what is not test.
        test: share of all examples.
    """
    file = Path(os.path.expanduser(path))
    file = file if file.is_absolute() else source.base_dir / file
    where = f"[data] path {file}"
    if not file.is_file():
        raise DataError(f"{where}: expected a file, found {'a folder' if file.is_dir() else 'none'}.")
    suffix = file.suffix.lower()
    if suffix not in (".npz", ".csv"):
        raise DataError(f'{where}: expected a file ending in .npz or .csv, got "{file.suffix}".')
    target = target or ("y" if suffix == ".npz" else "label")
    taken = [target, *([input] if suffix == ".npz" else [])]
    twice = [name for number, name in enumerate(columns) if name in (*taken, *columns[:number])]
    if twice:
        raise DataError(f'[data] columns: expected names of further columns, each once, got "{twice[0]}".')

    def decode() -> Dataset:
        table = (
            from_npz(file, where, input, target, columns)
            if suffix == ".npz"
            else from_csv(file, where, target, columns)
        )
        x, y = _inputs(table, where), _labels(table, where, target)
        found = labelled(file.name, x, y, table.columns, source.seed, validation, test)
        features = dict.fromkeys(table.features, "it is a feature. Name it in [data] columns, then it is none.")
        return dataclasses.replace(found, refused=features)

    key = ["arrays", file_key(file), input, target, columns, validation, test, source.seed]
    return cached(source.cache_dir, key, decode)


def _labels(table: Table, where: str, target: str) -> np.ndarray:
    x, y = table.x, table.y
    if y.dtype.kind not in "biuf":
        raise DataError(f'{where}, column "{target}": expected labels of numbers, got {y.dtype}.')
    if y.ndim != 1 or len(x) != len(y):
        raise DataError(
            f"{where}: expected one label per input, got inputs {list(x.shape)} and labels {list(y.shape)}."
        )
    return whole_labels(y, f'{where}, column "{target}"', table.row)


def _inputs(table: Table, where: str) -> dict[str, np.ndarray]:
    x = table.x
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected inputs of numbers, got {x.dtype}.")
    if x.ndim not in (2, 3, 4):
        raise DataError(f"{where}: expected inputs [n, …] of 2 to 4 dimensions, got shape {list(x.shape)}.")
    if x.size == 0:
        raise DataError(f"{where}: expected inputs of at least one number, got shape {list(x.shape)}.")
    with np.errstate(invalid="ignore"):
        fits = np.abs(x) <= np.finfo(np.float32).max if x.dtype.kind == "f" else np.ones(x.shape, dtype=bool)
    if not fits.all():
        place = np.argwhere(~fits)[0]
        column = f', column "{table.features[place[1]]}"' if table.features else ""
        raise DataError(
            f"{where}{column}, {table.row(int(place[0]))}: expected finite numbers of 32 bits (up to 3.4e38), "
            f"got {_said(float(x[tuple(place)]))}."
        )
    if x.ndim == 2:
        return {"features": x.astype(np.float32)}
    return {"image": (x[:, None] if x.ndim == 3 else x).astype(np.float32)}


def _said(number: float) -> str:
    return "NaN" if np.isnan(number) else "infinity" if np.isinf(number) else repr(number)
