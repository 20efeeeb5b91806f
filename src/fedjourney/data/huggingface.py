"""Data sets by their hub name, from a local root or from the hub."""

import io
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._common import Characters, cached, file_key, labelled, texts
from fedjourney.errors import DataError, nearest


def huggingface(
    source: Source,
    /,
    *,
    set: str,
    subset: str = "",
    input: str = "",
    target: str = "",
    owner: str = "",
    validation: Annotated[float, Ge(0), Lt(1)] = 0.1,
    test: Annotated[float, Ge(0), Lt(1)] = 0.1,
    limit: Annotated[int, Ge(0)] = 0,
    mean: float = 0.0,
    deviation: Annotated[float, Gt(0)] = 1.0,
    resize: Annotated[int, Ge(0)] = 0,
    sequence_length: Annotated[int, Ge(1)] = 80,
    characters: Characters = "found",
) -> Dataset:
    """Any image or text set by its hub name ("ylecun/mnist"), or a local folder in the hub's layout.

    Looked for in the data root (--data-dir, FEDJOURNEY_DATA), then beside the config, then on the hub.

    Args:
        source: data root, cache, seed of the splits.
        set: hub name, or folder with parquet files.
        subset: the configuration of the hub's set.
        input: column of images or text (default: found by its kind).
        target: column of classes (default: "label").
        owner: for text, the column that says whose it is (default: the first other column of text).
        validation: share of the training rows; for text, of each owner's windows.
        test: the same, where the set has no test split of its own.
        limit: rows kept of each split, 0 = all.
        mean: subtracted from pixels in 0…1.
        deviation: pixels are divided by it.
        resize: new height and width, a pixel the mean of those it covers; 0 = images as they are.
        sequence_length: characters per example of text.
        characters: of text: "found" numbers those in it; "bytes" are all 256 and two markers, known beforehand.
    """
    options = [set, subset, input, target, owner, validation, test, limit, mean, deviation, sequence_length]
    options += [resize] if resize else []
    options += [] if characters == "found" else [characters]
    files = _local(source, set, subset)
    if files is None:
        tables = _from_hub(set, subset)
        key = ["hub", options, source.seed, [t.num_rows for t in tables.values()]]
    else:
        key = ["files", options, source.seed, [file_key(f) for group in files.values() for f in group]]
        tables = {}

    def decode() -> Dataset:
        found = tables or {split: _read(paths) for split, paths in (files or {}).items()}
        found = {split: table.slice(0, limit) if limit else table for split, table in found.items()}
        train = found["train"]
        if train.num_rows == 0:
            raise DataError(f'[data] set "{set}": expected examples, got an empty table.')
        column = _input_column(train, input, set)
        if _is_text(train, column):
            whose = _column(train, owner or _other_text(train, column, set), set, "owner")
            together: dict[str, list[str]] = {}
            for one, text in zip(train[whose].to_pylist(), train[column].to_pylist(), strict=True):
                together.setdefault(str(one), []).append(str(text))
            joined = {one: "\n".join(parts) for one, parts in together.items()}
            return texts(set, joined, whose, sequence_length, validation, test, characters)
        label = _column(train, target or "label", set, "target")
        x, y = _images(train[column], mean, deviation, set, resize), _labels(train, label, set)
        extra = {
            name: np.array(train[name].to_pylist())
            for name in train.column_names
            if name not in (column, label)
            and train[name].null_count == 0
            and str(train.schema.field(name).type) in ("string", "int64", "int32")
        }
        own: Any = test
        if "test" in found:
            for wanted, option in ((column, "input"), (label, "target")):
                _column(found["test"], wanted, f"{set}, test", option)
            tested = _images(found["test"][column], mean, deviation, set, resize)
            own = ({"image": tested}, _labels(found["test"], label, set))
        return labelled(set, {"image": x}, y, extra, source.seed, validation, own)

    return cached(source.cache_dir, key, decode)


def _local(source: Source, name: str, subset: str) -> dict[str, list[Path]] | None:
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


def _read(paths: list[Path]) -> Any:
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


def _from_hub(name: str, subset: str) -> dict[str, Any]:
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


def _column(table: Any, name: str, where: str, option: str) -> str:
    if name not in table.column_names:
        there = ", ".join(table.column_names)
        raise DataError(
            f'[data] {option}: set "{where}" has no column "{name}". '
            f"There are: {there}.{nearest(name, table.column_names)}"
        )
    return name


def _input_column(table: Any, name: str, where: str) -> str:
    if name:
        return _column(table, name, where, "input")
    for field in table.schema:
        if str(field.type).startswith("struct<bytes"):
            return str(field.name)
    if "text" in table.column_names:
        return "text"
    raise DataError(
        f'[data] input: set "{where}" has no column of images or named "text". '
        f"There are: {', '.join(table.column_names)}. Name one."
    )


def _is_text(table: Any, column: str) -> bool:
    return str(table.schema.field(column).type) in ("string", "large_string")


def _other_text(table: Any, column: str, where: str) -> str:
    for name in table.column_names:
        if name != column and _is_text(table, name):
            return str(name)
    raise DataError(f'[data] owner: set "{where}" has no second column of text that says whose it is.')


def _images(column: Any, mean: float, deviation: float, where: str, resize: int = 0) -> np.ndarray:
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


def _labels(table: Any, name: str, where: str) -> np.ndarray:
    column = table[name]
    if not str(column.type).startswith(("int", "uint")):
        raise DataError(f'[data] target: expected whole numbers in column "{name}" of "{where}", got {column.type}.')
    if column.null_count:
        raise DataError(f'[data] target: column "{name}" of "{where}" has {column.null_count} empty rows.')
    return np.asarray(column.to_numpy()).astype(np.int64)
