"""Where things lie on disk; and how a file is written so that it is never half there."""

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from fedjourney.errors import RunError
from fedjourney.tensors import Tensors


def cache_dir() -> Path:
    """Return the folder for decoded data: FEDJOURNEY_CACHE, or the user's cache folder."""
    named = os.environ.get("FEDJOURNEY_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedjourney"


def data_dir() -> Path | None:
    """Return the root of data sets named by FEDJOURNEY_DATA, or None where it is not set, or empty.

    Raises:
        RunError: what it names is no folder.
    """
    named = os.environ.get("FEDJOURNEY_DATA")
    return root("FEDJOURNEY_DATA", named) if named else None


def root(where: str, named: str) -> Path:
    """Return the folder that somebody named, in `where`, as root of data sets.

    Raises:
        RunError: it is none.
    """
    if not named:  # Path("") would be the current folder
        raise RunError(f"{where}: expected a folder, got an empty text. Name one, or leave it out.")
    if not Path(named).is_dir():
        found = "a file" if Path(named).exists() else "none"
        raise RunError(f"{where} {named}: expected a folder, found {found}. Name one, or leave it out.")
    return Path(named)


def write_atomically(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file so that a reader, or a kill, finds the old content or the new, never a part.

    After a loss of power that holds only if it is durable: on the disk before this returns, which takes milliseconds.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


_SYNC = getattr(os, "sync", None)  # Windows has none


def settle() -> bool:
    """Have all that was written brought to the disk: many small files at once, in the time that one alone takes.

    Returns whether it is there: Linux waits for it, other systems may not.
    """
    if _SYNC is not None:
        _SYNC()
    return sys.platform == "linux"


class States(Protocol):
    """Where clients keep state between rounds."""

    def load(self, client: int, round: int) -> Tensors | None:
        """Return the state kept in `round` (-1: none yet, {}), or None where it is lost."""

    def save(self, client: int, round: int, state: Tensors) -> None:
        """Keep the state of a round."""


@dataclass
class ClientStates:
    """State that clients keep between rounds: `<folder>/<client>/<round>.safetensors`, the last two.

    It counts only once the server says so: a client loads exactly the round whose reply was accepted last. It is on the
    disk only after `settle`, which whoever tells the server, or writes its checkpoint, calls before. Clients that keep
    the same bits one after the other, as those of an evolution do, share one file: no file is ever changed in place.
    """

    folder: Path
    _last: tuple[Path, Tensors] = field(default=(Path(), {}), repr=False)  # what was saved last, and where

    def load(self, client: int, round: int) -> Tensors | None:
        """Return the state kept in `round` (-1: none yet, {}), or None where it is lost."""
        from safetensors.torch import load_file

        if round < 0:
            return {}
        path = self.folder / str(client) / f"{round}.safetensors"
        return load_file(path) if path.exists() else None

    def save(self, client: int, round: int, state: Tensors) -> None:
        """Keep the state of a round, which nobody may change any more, and drop all but the newest two."""
        from safetensors.torch import save

        folder = self.folder / str(client)
        folder.mkdir(parents=True, exist_ok=True)
        path, (other, before) = folder / f"{round}.safetensors", self._last
        if not (_same_bits(state, before) and _linked(other, path)):
            write_atomically(path, save(state), durable=_SYNC is None)
        self._last = path, state
        for old in sorted(int(p.stem) for p in folder.glob("*.safetensors"))[:-2]:
            (folder / f"{old}.safetensors").unlink()


def _same_bits(left: Tensors, right: Tensors) -> bool:
    return left.keys() == right.keys() and all(
        one.dtype == right[name].dtype
        and one.shape == right[name].shape
        and torch.equal(one.reshape(-1).view(torch.uint8), right[name].reshape(-1).view(torch.uint8))
        for name, one in left.items()
    )


def _linked(file: Path, path: Path) -> bool:
    """Give a file a second name, where its system can and that name is free; return whether it did."""
    try:
        os.link(file, path)
    except OSError:
        return False
    return True
