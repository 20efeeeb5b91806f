"""What data plug-ins share that read sets in the hub's layout: tables, columns, labels."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedjourney.data import Source
from fedjourney.data._cache import file_key
from fedjourney.data._common import whole_labels
from fedjourney.data._parquet import from_hub, local
from fedjourney.data._parquet import read as read_files
from fedjourney.errors import DataError, nearest


def tables_of(source: Source, name: str, subset: str, limit: int) -> tuple[list[Any], Callable[[], dict[str, Any]]]:
    """Return what tells one state of a set from another, and how its tables are read: split -> table.

    Looked for in the data root, then beside the config, then on the hub. At most `limit` rows of each split, 0 = all.

    Raises:
        DataError: the set cannot be had, or is empty.
    """
    files = local(source, name, subset)
    fetched = from_hub(source, name, subset) if files is None else {}

    def read() -> dict[str, Any]:
        found = fetched or {split: read_files(paths) for split, paths in (files or {}).items()}
        found = {split: table.slice(0, limit) if limit else table for split, table in found.items()}
        if found["train"].num_rows == 0:
            raise DataError(f'[data] set "{name}": expected examples, got an empty table.')
        return found

    if files is None:
        return ["hub", [table.num_rows for table in fetched.values()]], read
    return ["files", [file_key(path) for group in files.values() for path in group]], read


def column_named(table: Any, name: str, where: str, option: str) -> str:
    """Return the name, of a column that is there.

    Raises:
        DataError: it is not; with the option that named it.
    """
    if name not in table.column_names:
        there = ", ".join(table.column_names)
        raise DataError(
            f'[data] {option}: set "{where}" has no column "{name}". '
            f"There are: {there}.{nearest(name, table.column_names)}"
        )
    return name


def full_column(table: Any, name: str, where: str, option: str) -> Any:
    """Return a column that holds a value in every row."""
    column = table[name]
    if column.null_count:
        raise DataError(
            f'[data] {option}: expected a value in every row of column "{name}" of "{where}", got none in '
            f"{column.null_count} (the first is row {column.is_null().index(True).as_py()}). Remove such rows."
        )
    return column


def input_column(table: Any, name: str, where: str) -> str:
    """Return the column of images, or of text: the named one, or the first that is found by its kind."""
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


def whole_numbers(table: Any, name: str, where: str) -> np.ndarray:
    """Return a column of classes [n] int64."""
    column = full_column(table, name, where, "target")
    if not str(column.type).startswith(("int", "uint")):
        raise DataError(f'[data] target: expected whole numbers in column "{name}" of "{where}", got {column.type}.')
    return whole_labels(np.asarray(column.to_numpy()), f'[data] set "{where}", column "{name}"')
