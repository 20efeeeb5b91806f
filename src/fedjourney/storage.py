"""Where things lie on disk; and how a file is written so that it is never half there."""

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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


_STATE = ".safetensors"
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

    def save(self, client: int, round: int, state: Tensors, oldest: int) -> None:
        """Keep the state of a round; its tensors stay the caller's. What is older than `oldest` may go."""


@dataclass
class ClientStates:
    """State that clients keep between rounds: `<folder>/<client>/<round>.safetensors`.

    It counts only once the server says so: a client loads exactly the round whose reply was accepted last, and after a
    resume the one that was so at the checkpoint; it drops what is older. It is on the disk only after `settle`, which
    whoever tells the server, or writes its checkpoint, calls before. Clients that keep the same bits one after the
    other, as those of an evolution do, share one file, which is written and read once: none is ever changed in place.
    """

    folder: Path
    _saved: tuple[str, dict[str, Any]] = field(default=("", {}), repr=False)  # what was saved last, and where
    _loaded: tuple[Any, Tensors] = field(default=(None, {}), repr=False)  # what was read last, and from which file

    def load(self, client: int, round: int) -> Tensors | None:
        """Return the state kept in `round` (-1: none yet, {}), or None where it is lost."""
        from safetensors.torch import load_file

        if round < 0:
            return {}
        path = self._path(client, round)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        file = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        before, state = self._loaded
        if file != before:
            state = load_file(path)
            self._loaded = file, state
        return {name: tensor.clone() for name, tensor in state.items()}

    def save(self, client: int, round: int, state: Tensors, oldest: int) -> None:
        """Keep the state of a round, and drop all from before the round `oldest`."""
        from safetensors.torch import save

        path, (other, before) = self._path(client, round), self._saved
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
        content = {name: (tensor.dtype, tensor.shape, _bytes(tensor)) for name, tensor in state.items()}
        if not (content == before and _linked(other, path)):
            apart = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}
            write_atomically(Path(path), save(apart), durable=_SYNC is None)
        self._saved = path, content
        for name in os.listdir(folder):
            if name.endswith(_STATE) and int(name.removesuffix(_STATE)) < oldest:
                os.unlink(f"{folder}/{name}")

    def _path(self, client: int, round: int) -> str:
        return f"{self.folder}/{client}/{round}{_STATE}"  # a Path costs a small client more than the file


def _bytes(tensor: torch.Tensor) -> bytes:
    tensor = tensor.cpu()
    try:
        return tensor.numpy().tobytes()
    except TypeError:  # a kind of number that NumPy does not know, bfloat16 among them
        return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _linked(file: str, path: str) -> bool:
    """Give a file a second name, where its system can and that name is free; return whether it did."""
    try:
        os.link(file, path)
    except OSError:
        return False
    return True
