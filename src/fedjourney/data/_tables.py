"""Reading files of arrays and tables of text."""

import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedjourney.errors import DataError, nearest


@dataclass(frozen=True)
class Table:
    """What a file holds, as it stands there.

    Attributes:
        x: inputs [n, …].
        y: labels [n].
        columns: what a partition may deal by, [n] each.
        features: names of the features [d], where the file names them.
        row: how the file's reader finds row i again.
    """

    x: np.ndarray
    y: np.ndarray
    columns: dict[str, np.ndarray]
    features: list[str] = field(default_factory=list)
    row: Callable[[int], str] = "row {}".format


def from_npz(file: Path, where: str, input: str, target: str, columns: Sequence[str]) -> Table:
    """Read an archive of arrays.

    Raises:
        DataError: it is none, or holds not what is asked for.
    """
    try:
        with file.open("rb") as stream:
            single = stream.read(6) == b"\x93NUMPY"
        archive = not single and zipfile.is_zipfile(file)
    except OSError as error:
        raise DataError(f"{where}: expected an .npz, cannot be read ({error}).") from None
    if not archive:
        got = "a single array (.npy)" if single else "a file of another kind"
        raise DataError(f"{where}: expected an archive of arrays, got {got}. Write one: np.savez(path, x=…, y=…).")
    try:
        with np.load(file, allow_pickle=False) as found:
            names = list(found.files)
            if not names:
                raise DataError(f'{where}: expected arrays "{input}" and "{target}", got an archive without any.')
            for name in (input, target, *columns):
                if name not in names:
                    raise DataError(f'{where}: no array "{name}". There are: {", ".join(names)}.{nearest(name, names)}')
            x, y = _array(found, input, where), _array(found, target, where)
            return Table(x, y, {name: _column(_array(found, name, where), len(x), name, where) for name in columns})
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, EOF, headers: whatever a broken file can raise
        raise DataError(f"{where}: expected an .npz of plain arrays, cannot be read ({error}).") from None


def _array(archive: Any, name: str, where: str) -> np.ndarray:
    try:
        found = archive[name]
    except ValueError as error:
        if "pickle" in str(error):
            raise DataError(f'{where}: expected numbers in array "{name}", got Python objects.') from None
        raise
    if not isinstance(found, np.ndarray):
        raise DataError(f'{where}: expected an array "{name}", got a file that is none.')
    if found.ndim == 0:
        raise DataError(f'{where}: expected an array "{name}" [n, …], got a single value.')
    return found


def _column(values: np.ndarray, count: int, name: str, where: str) -> np.ndarray:
    if values.dtype.kind not in "biuU" or values.shape != (count,):
        raise DataError(
            f'{where}, array "{name}": expected whole numbers, true and false, or text, one per input [{count}], '
            f"got {values.dtype} {list(values.shape)}."
        )
    return values.astype(str) if values.dtype == np.uint64 else values  # as text, for it may not fit int64


def from_csv(file: Path, where: str, target: str, columns: Sequence[str]) -> Table:
    """Read a table with a header; what is neither target nor named in `columns` is a feature.

    Raises:
        DataError: it is none, or a feature is no number.
    """
    rows, lines = [], []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: expected a table as text, cannot be read ({error}).") from None
    if len(rows) < 2:
        raise DataError(f"{where}: expected a header and rows, got {len(rows)} lines.")
    header, body, lines = rows[0], rows[1:], lines[1:]
    for place, name in enumerate(header):
        if name in header[:place]:
            raise DataError(
                f'{where}: expected columns of different names, got "{name}" twice '
                f"(columns {header.index(name) + 1} and {place + 1}). Rename one."
            )
    for name in (target, *columns):
        if name not in header:
            raise DataError(f'{where}: no column "{name}". There are: {", ".join(header)}.{nearest(name, header)}')
    numeric = [place for place, name in enumerate(header) if name not in columns]
    named = {name: header.index(name) for name in columns}
    values, kept = np.empty((len(body), len(numeric))), {name: [""] * len(body) for name in columns}
    for number, row in enumerate(body):
        if len(row) != len(header):
            raise DataError(f"{where} line {lines[number]}: expected {len(header)} values, got {len(row)}.")
        for at, place in enumerate(numeric):
            try:
                values[number, at] = float(row[place])
            except ValueError:
                raise DataError(
                    f'{where} line {lines[number]}, column "{header[place]}": expected a number, got "{row[place]}". '
                    "If it is no feature, name it in [data] columns."
                ) from None
        for name, place in named.items():
            kept[name][number] = row[place].strip()
            if not kept[name][number]:
                raise DataError(f'{where} line {lines[number]}, column "{name}": expected a value, got none.')
    label = numeric.index(header.index(target))
    return Table(
        np.delete(values, label, axis=1),
        values[:, label],
        {name: np.array(texts) for name, texts in kept.items()},
        [header[place] for place in numeric if header[place] != target],
        lambda row: f"line {lines[row]}",
    )
