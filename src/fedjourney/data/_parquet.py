"""Data sets in the hub's layout: finding their files, reading them, what partitions may deal by."""

import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fedjourney.data import Source
from fedjourney.errors import DataError, nearest

_log = logging.getLogger("fedjourney")

SHOWN = 8  # names in a message


def local(source: Source, name: str, subset: str) -> dict[str, list[Path]] | None:
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


def _sets(root: Path) -> list[str]:
    """Return the names of the sets in a root, `name` or `owner/name`."""

    def holds(folder: Path) -> bool:
        return any(any(folder.glob(pattern)) for pattern in ("train*.parquet", "data/train*.parquet"))

    found: list[str] = []
    with contextlib.suppress(OSError):  # what may not be looked into is not there
        for one in sorted(path for path in root.iterdir() if path.is_dir()):
            if holds(one):
                found.append(one.name)
            else:
                inner = sorted(path for path in one.iterdir() if path.is_dir())
                found += [f"{one.name}/{two.name}" for two in inner if holds(two) or any(two.glob("*/train*.parquet"))]
    return found


def read(paths: list[Path]) -> Any:
    """Return the rows of all files as one table.

    Raises:
        DataError: a file cannot be read, or its columns are not those of the first.
    """
    import pyarrow
    from pyarrow import parquet

    tables: list[Any] = []
    for path in paths:
        try:
            names = parquet.read_schema(path).names
            twice = [name for number, name in enumerate(names) if name in names[:number]]
            if twice:
                raise DataError(f'{path}: expected columns of different names, got "{twice[0]}" twice. Rename one.')
            tables.append(parquet.read_table(path))
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path}: expected a parquet file, cannot be read ({error}).") from None
        first, other = tables[0].schema, tables[-1].schema
        if other.names != first.names:
            raise DataError(
                f"{path}: expected the columns of {paths[0].name}, {', '.join(first.names)}, "
                f"got {', '.join(other.names)}."
            )
        for name, wanted, got in zip(first.names, first.types, other.types, strict=True):
            if wanted != got:
                raise DataError(
                    f'{path}: expected {wanted} in column "{name}", as in {paths[0].name}, got {got}. '
                    "Write all files of a set with one type."
                )
    return pyarrow.concat_tables(tables)


def from_hub(source: Source, name: str, subset: str) -> dict[str, Any]:
    """Return split -> table from the hub, or from its own cache.

    Raises:
        DataError: not to be had; with the sets that are at hand.
    """
    if not _reachable():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # else it would ask six times, for half a minute
    import datasets

    _log.info("data: asking the hub for %s …", name)
    talks = logging.getLogger("huggingface_hub")
    level = talks.level
    talks.setLevel(logging.ERROR)  # of its attempts, of which the last one's words go along below
    try:
        found = datasets.load_dataset(name, subset or None)
    except Exception as error:  # offline, gated, misspelt: the hub's own words go along
        there = _sets(source.data_dir) if source.data_dir is not None else []
        shown = ", ".join(there[:SHOWN]) + (", …" if len(there) > SHOWN else "")
        at_hand = f" In {source.data_dir} there are: {shown}.{nearest(name, there)}" if there else ""
        said = (str(error).splitlines() or [""])[0][:200].rstrip(".")
        raise DataError(
            f'[data] set "{name}": not found in --data-dir or FEDJOURNEY_DATA, and the hub did not give it '
            f"({type(error).__name__}: {said}). Put it at DIR/{name} in the hub's layout "
            f"and say --data-dir DIR, or run once with a network.{at_hand}"
        ) from None
    finally:
        talks.setLevel(level)
    return {split: found[split].with_format("arrow")[:] for split in ("train", "test") if split in found}


def _reachable() -> bool:
    """Return whether the hub's name means anything here."""
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True


def dealt_by(table: Any, used: dict[str, str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the columns [n] that a partition may deal by, and for each other one why not.

    Args:
        table: of the training rows.
        used: columns that are something else, and what.
    """
    from pyarrow import types

    columns: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for name in table.column_names:
        column = table[name]
        if types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        kind = column.type
        text = types.is_string(kind) or types.is_large_string(kind)
        if name in used:
            refused[name] = f"it is {used[name]}."
        elif not (text or types.is_integer(kind) or types.is_boolean(kind)):
            refused[name] = f"expected whole numbers, true and false, or text, got {kind}."
        elif column.null_count:
            first = column.is_null().index(True).as_py()
            refused[name] = (
                f"expected a value in every row, got none in {column.null_count} (the first is row {first})."
            )
        else:
            values = np.array(
                column.to_pylist(), dtype=None if text or types.is_boolean(kind) else kind.to_pandas_dtype()
            )
            columns[name] = values.astype(str) if values.dtype == np.uint64 else values  # it may not fit int64
    return columns, refused
