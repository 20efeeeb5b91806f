"""What data plug-ins share that read sets in the hub's layout: files, columns, images, labels."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedjourney.data import Source
from fedjourney.data._common import file_key
from fedjourney.errors import DataError, nearest


def tables_of(source: Source, name: str, subset: str, limit: int) -> tuple[list[Any], Callable[[], dict[str, Any]]]:
    """Return what tells one state of a set from another, and how its tables are read: split -> table.

    Looked for in the data root, then beside the config, then on the hub. At most `limit` rows of each split, 0 = all.

    Raises:
        DataError: the set cannot be had, or is empty.
    """
    files = local_files(source, name, subset)
    fetched = from_hub(name, subset) if files is None else {}

    def read() -> dict[str, Any]:
        found = fetched or {split: read_tables(paths) for split, paths in (files or {}).items()}
        found = {split: table.slice(0, limit) if limit else table for split, table in found.items()}
        if found["train"].num_rows == 0:
            raise DataError(f'[data] set "{name}": expected examples, got an empty table.')
        return found

    if files is None:
        return ["hub", [table.num_rows for table in fetched.values()]], read
    return ["files", [file_key(path) for group in files.values() for path in group]], read


def local_files(source: Source, name: str, subset: str) -> dict[str, list[Path]] | None:
    """Return split -> parquet files, or None where no folder of that name is at hand; a subset is a folder in it."""
    if not name:
        raise DataError("[data] set: expected a data set's name or folder, got an empty text.")
    for root in (source.data_dir, source.base_dir, Path("/")):
        folder = root / name if root is not None and (root != Path("/") or Path(name).is_absolute()) else None
        if folder is None or not folder.is_dir():
            continue
        if subset and not (folder / subset).is_dir():
            there = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
            raise DataError(
                f'[data] subset: expected a folder "{subset}" in {folder}, found none. '
                f"There are: {', '.join(there) or 'none'}.{nearest(subset, there)}"
            )
        every = sorted((folder / subset).rglob("*.parquet"))
        found = {split: [p for p in every if p.name.startswith(split)] for split in ("train", "test")}
        found = {split: paths for split, paths in found.items() if paths}
        if "train" not in found:
            raise DataError(
                f"{folder}: expected parquet files named train-…, got {', '.join(p.name for p in every) or 'none'}."
            )
        return found
    return None


def read_tables(paths: list[Path]) -> Any:
    """Return one table from a split's files, which must have the same columns."""
    import pyarrow
    from pyarrow import parquet

    tables = []
    for path in paths:
        try:
            tables.append(parquet.read_table(path))
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: expected a parquet file, cannot be read ({error}).") from None
        if tables[-1].schema.names != tables[0].schema.names or tables[-1].schema.types != tables[0].schema.types:
            raise DataError(
                f"{path}: expected the columns of {paths[0].name}, got {', '.join(tables[-1].schema.names)}."
            )
    return pyarrow.concat_tables(tables)


def from_hub(name: str, subset: str) -> dict[str, Any]:
    """Return split -> table, fetched from the hub or found in its cache."""
    import datasets

    try:
        found = datasets.load_dataset(name, subset or None)
    except Exception as error:  # offline, gated, misspelt: the hub's own words go along
        raise DataError(
            f'[data] set "{name}": not found in --data-dir or FEDJOURNEY_DATA, and the hub did not give it '
            f"({type(error).__name__}: {str(error).splitlines()[0][:200]}). Put it at DIR/{name} in the hub's layout "
            "and say --data-dir DIR, or run once with a network."
        ) from None
    return {split: found[split].with_format("arrow")[:] for split in ("train", "test") if split in found}


def column_named(table: Any, name: str, where: str, option: str) -> str:
    if name not in table.column_names:
        there = ", ".join(table.column_names)
        raise DataError(
            f'[data] {option}: set "{where}" has no column "{name}". '
            f"There are: {there}.{nearest(name, table.column_names)}"
        )
    return name


def input_column(table: Any, name: str, where: str) -> str:
    if name:
        return column_named(table, name, where, "input")
    for field in table.schema:
        if str(field.type).startswith("struct<bytes"):
            return str(field.name)
    if "text" in table.column_names:
        return "text"
    raise DataError(
        f'[data] input: set "{where}" has no column of images or named "text". '
        f"There are: {', '.join(table.column_names)}. Name one."
    )


def images(column: Any, mean: float, deviation: float, where: str, resize: int = 0) -> np.ndarray:
    """Return float32 [n, channels, height, width] in 0…1, then normalised."""
    from PIL import Image, UnidentifiedImageError

    rows: np.ndarray | None = None
    for number, cell in enumerate(column.to_pylist()):
        try:
            image: Image.Image = Image.open(io.BytesIO(cell["bytes"]))
            if resize and image.mode in ("L", "RGB"):
                image = image.resize((resize, resize), Image.Resampling.BOX)
            pixels = np.asarray(image)
        except (UnidentifiedImageError, OSError, TypeError, KeyError) as error:
            raise DataError(f'set "{where}" row {number}: expected an image, cannot be decoded ({error}).') from None
        if pixels.dtype != np.uint8:
            raise DataError(
                f'set "{where}" row {number}: expected an image of 8 bits a pixel, got {pixels.dtype}. Convert it.'
            )
        if rows is None:
            rows = np.empty((len(column), *pixels.shape), dtype=np.uint8)
        if pixels.shape != rows.shape[1:]:
            raise DataError(
                f'set "{where}" row {number}: expected an image of shape {list(rows.shape[1:])}, '
                f"got {list(pixels.shape)}. All images must have one size."
            )
        rows[number] = pixels
    if rows is None:
        raise DataError(f'set "{where}": expected images, got none.')
    rows = rows[:, None] if rows.ndim == 3 else rows.transpose(0, 3, 1, 2)
    return (rows.astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)


def whole_numbers(table: Any, name: str, where: str) -> np.ndarray:
    column = table[name]
    if not str(column.type).startswith(("int", "uint")):
        raise DataError(f'[data] target: expected whole numbers in column "{name}" of "{where}", got {column.type}.')
    if column.null_count:
        raise DataError(f'[data] target: column "{name}" of "{where}" has {column.null_count} empty rows.')
    return np.asarray(column.to_numpy()).astype(np.int64)
