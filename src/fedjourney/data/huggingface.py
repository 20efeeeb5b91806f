"""Data sets by their hub name, from a local root or from the hub."""

import dataclasses
from typing import Annotated, Any

from annotated_types import Ge, Le, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import cached
from fedjourney.data._common import Characters, SequenceLength, labelled, texts
from fedjourney.data._hub import column_named, full_column, input_column, tables_of, whole_numbers
from fedjourney.data._images import pixels
from fedjourney.data._parquet import dealt_by
from fedjourney.errors import DataError


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
    limit: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
    mean: Annotated[float, Ge(-1e6), Le(1e6)] = 0.0,
    deviation: Annotated[float, Ge(1e-6), Le(1e6)] = 1.0,
    resize: Annotated[int, Ge(0), Le(4096)] = 0,
    sequence_length: SequenceLength = 80,
    characters: Characters = "found",
) -> Dataset:
    """Any image or text set by its hub name ("ylecun/mnist"), or a local folder in the hub's layout.

    Looked for in the data root (--data-dir, FEDJOURNEY_DATA), then beside the config, then on the hub.

    Args:
        source: data root, cache, seed of the splits.
        set: hub name, or folder with parquet files.
        subset: the configuration of the hub's set.
        input: column of images or text (default: found by its kind). Images are grey or of three colours, 8 bits each;
            palettes are looked up (grey where they hold nothing else), an alpha channel goes where it hides nothing.
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
    key, read = tables_of(source, set, subset, limit)

    def decode() -> Dataset:
        found = read()
        train = found["train"]
        column = input_column(train, input, set)
        if _is_text(train, column):
            whose = column_named(train, owner or _other_text(train, column, set), set, "owner")
            owners, parts = full_column(train, whose, set, "owner"), full_column(train, column, set, "input")
            together: dict[str, list[str]] = {}
            for one, text in zip(owners.to_pylist(), parts.to_pylist(), strict=True):
                together.setdefault(str(one), []).append(str(text))
            joined = {one: "\n".join(parts) for one, parts in together.items()}
            made = texts(set, joined, whose, sequence_length, validation, test, characters)
            why = f'texts are dealt by their owner, which [data] owner names, now "{whose}".'
            others = {name: why for name in train.column_names if name != whose}
            return dataclasses.replace(made, refused=others)
        label = column_named(train, target or "label", set, "target")
        x, y = pixels(train[column], mean, deviation, set, resize), whole_numbers(train, label, set)
        extra, refused = dealt_by(train.drop_columns([label]), {column: "the input"})
        own: Any = test
        if "test" in found:
            for wanted, option in ((column, "input"), (label, "target")):
                column_named(found["test"], wanted, f"{set}, test", option)
            tested = pixels(found["test"][column], mean, deviation, f"{set}, test", resize)
            own = ({"image": tested}, whole_numbers(found["test"], label, f"{set}, test"))
        made = labelled(set, {"image": x}, y, extra, source.seed, validation, own)
        return dataclasses.replace(made, refused=refused)

    return cached(source.cache_dir, [*key, options, source.seed], decode)


def _is_text(table: Any, column: str) -> bool:
    return str(table.schema.field(column).type) in ("string", "large_string")


def _other_text(table: Any, column: str, where: str) -> str:
    for name in table.column_names:
        if name != column and _is_text(table, name):
            return str(name)
    raise DataError(f'[data] owner: set "{where}" has no second column of text that says whose it is.')
