"""The cache of decoded tensors."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedjourney.data import Dataset, Examples

CODE = 3  # part of every key: raise it when decoding changes
SPLITS = ("train", "validation", "test")


def file_key(path: Path) -> list[Any]:
    """Return what tells one state of a file from another; the time of its last change cannot be set back."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def cached(folder: Path, key: list[Any], decode: Callable[[], Dataset]) -> Dataset:
    """Return the decoded set from the cache, mapped so that processes share its pages, or decode and keep it.

    A damaged or unwritable cache costs time, never the run.
    """
    place = folder / hashlib.sha256(json.dumps([CODE, *key], default=str).encode()).hexdigest()[:32]
    try:
        return _read(place)
    except Exception:  # absent, or damaged in any way that bytes can be: NumPy and JSON raise a dozen kinds
        dataset = decode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            _write(temporary, dataset)
            if place.exists():
                shutil.rmtree(place, ignore_errors=True)
            os.replace(temporary, place)
            _to_disk(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        pass  # no room or no right to keep it: decoded again next time
    return dataset


def _to_disk(folder: Path) -> None:
    """Wait until the names in a folder outlast a power cut, where the system can say so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write(folder: Path, dataset: Dataset) -> None:
    """Write everything to the disk itself: once the folder has its name, no file in it is half there."""

    def write(name: str, content: np.ndarray | bytes) -> None:
        with (folder / name).open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, content)
            file.flush()
            os.fsync(file.fileno())

    for split in SPLITS:
        part: Examples = getattr(dataset, split)
        for group in ("x", "y"):
            for name, tensor in getattr(part, group).items():
                write(f"{split}.{group}.{name}.npy", tensor.numpy())
    for number, column in enumerate(dataset.columns.values()):  # a column's name can be no file's: "a/b"
        write(f"columns.{number}.npy", column)
    first = dataset.train
    facts = {
        "name": dataset.name,
        "classes": dataset.classes,
        "fingerprint": dataset.fingerprint,
        "vocabulary": dataset.vocabulary,
        "refused": dataset.refused,
        "x": list(first.x),
        "y": list(first.y),
        "columns": list(dataset.columns),
    }
    write("facts.json", json.dumps(facts).encode())
    _to_disk(folder)


def _read(folder: Path) -> Dataset:
    """Return what was kept.

    Raises:
        Exception: of any kind, where it is not what `_write` wrote.
    """
    facts = json.loads((folder / "facts.json").read_text())

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))

    parts = [
        Examples(
            {name: tensor(f"{split}.x.{name}") for name in facts["x"]},
            {name: tensor(f"{split}.y.{name}") for name in facts["y"]},
        )
        for split in SPLITS
    ]
    columns = {name: np.load(folder / f"columns.{number}.npy") for number, name in enumerate(facts["columns"])}
    for part in parts:
        if {len(tensor) for tensor in (part.x | part.y).values()} != {len(part)}:
            raise ValueError(f"{folder}: tensors of different length")
    if any(len(column) != len(parts[0]) for column in columns.values()):
        raise ValueError(f"{folder}: columns of another length than the examples")
    return Dataset(
        str(facts["name"]),
        parts[0],
        parts[1],
        parts[2],
        columns,
        int(facts["classes"]),
        str(facts["fingerprint"]),
        str(facts["vocabulary"]),
        dict(facts["refused"]),
    )
