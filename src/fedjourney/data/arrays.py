"""A person's own arrays or table."""

import csv
import os
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._common import labelled
from fedjourney.errors import DataError, nearest


def arrays(
    source: Source,
    /,
    *,
    path: str,
    input: str = "x",
    target: str = "",
    validation: Annotated[float, Ge(0), Lt(1)] = 0.1,
    test: Annotated[float, Ge(0), Lt(1)] = 0.2,
) -> Dataset:
    """Your own `.npz` (arrays x and y) or `.csv` (a header; all columns but the target are features).

    Args:
        source: base of a relative path, seed of the splits.
        path: the file.
        input: name of the inputs in an .npz: [n, features], [n, height, width] or [n, channels, height, width].
        target: name of the labels; default "y" in an .npz, "label" in a .csv.
        validation: share of what is not test.
        test: share of all examples.
    """
    file = Path(os.path.expanduser(path))
    file = file if file.is_absolute() else source.base_dir / file
    where = f"[data] path {file}"
    if not file.is_file():
        raise DataError(f"{where}: expected a file, found none.")
    if file.suffix == ".npz":
        x, y = _npz(file, where, input, target or "y")
    elif file.suffix == ".csv":
        x, y = _csv(file, where, target or "label")
    else:
        raise DataError(f'{where}: expected a file ending in .npz or .csv, got "{file.suffix}".')
    _check(where, x, y)
    if x.ndim == 2:
        inputs = {"features": x.astype(np.float32)}
    elif x.ndim in (3, 4):
        inputs = {"image": (x[:, None] if x.ndim == 3 else x).astype(np.float32)}
    else:
        raise DataError(f"{where}: expected inputs [n, …] of 2 to 4 dimensions, got shape {list(x.shape)}.")
    return labelled(file.name, inputs, y.astype(np.int64), {}, source.seed, validation, test)


def _npz(file: Path, where: str, input: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as found:
            for name in (input, target):
                if name not in found:
                    there = ", ".join(found.files)
                    raise DataError(f'{where}: no array "{name}". There are: {there}.{nearest(name, found.files)}')
            return found[input], found[target]
    except DataError:
        raise
    except Exception as error:  # zipfile, EOF, pickle refusals: whatever a broken file can raise
        raise DataError(f"{where}: expected an .npz of plain arrays, cannot be read ({error}).") from None


def _csv(file: Path, where: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: expected a table as text, cannot be read ({error}).") from None
    if len(rows) < 2:
        raise DataError(f"{where}: expected a header and rows, got {len(rows)} lines.")
    header, body = rows[0], rows[1:]
    if target not in header:
        raise DataError(f'{where}: no column "{target}". There are: {", ".join(header)}.{nearest(target, header)}')
    values = np.empty((len(body), len(header)))
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise DataError(f"{where} line {number}: expected {len(header)} values, got {len(row)}.")
        for column, text in enumerate(row):
            try:
                values[number - 2, column] = float(text)
            except ValueError:
                raise DataError(
                    f'{where} line {number}, column "{header[column]}": expected a number, got "{text}".'
                ) from None
    place = header.index(target)
    return np.delete(values, place, axis=1), values[:, place]


def _check(where: str, x: np.ndarray, y: np.ndarray) -> None:
    for name, array in (("inputs", x), ("labels", y)):
        if array.dtype.kind not in "biuf":
            raise DataError(f"{where}: expected {name} of numbers, got {array.dtype}.")
    if y.ndim != 1 or x.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"{where}: expected one label per input, got inputs {list(x.shape)} and labels {list(y.shape)}."
        )
    if x.size == 0:
        raise DataError(f"{where}: expected inputs of at least one number, got shape {list(x.shape)}.")
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1) if len(x) else np.zeros(0, dtype=bool)
    if bad.any():
        raise DataError(f"{where}: expected finite inputs, got NaN or infinity in row {int(np.argmax(bad))}.")
    odd = ~np.isfinite(y) | (y != np.floor(y))
    if odd.any():
        raise DataError(f"{where}: expected whole numbers as label (0, 1, 2, …), got {y[odd][0]}.")
