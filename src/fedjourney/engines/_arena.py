"""Memory that the processes of one machine share.

A file without a name (`memfd` on Linux, an unlinked temporary file on other POSIX systems), mapped by everyone
who was given its descriptor: when the last process ends, by whatever means, nothing is left behind. Windows cannot
hand descriptors over, so there it is a named temporary file that its maker removes.
"""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterable
from typing import NamedTuple

import torch

from fedjourney.tensors import Tensors

ALIGNMENT = 64  # bytes; a cache line


class Placed(NamedTuple):
    """Where a tensor lies in an arena."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int


class Arena:
    """Shared memory that grows; tensors are written at an offset and read as views.

    Attributes:
        handle: what `Arena(handle)` in another process opens; a descriptor, or a path on Windows.
    """

    def __init__(self, handle: int | str | None = None) -> None:
        """Make one, or open that of another process."""
        self._made = handle is None
        self.handle: int | str = _new_file() if handle is None else handle
        self._file = self.handle if isinstance(self.handle, int) else os.open(self.handle, os.O_RDWR)
        self._map: mmap.mmap | None = None

    def write(self, tensors: Tensors, offset: int = 0) -> tuple[list[Placed], int]:
        """Copy tensors to an offset; return where they lie, and the end."""
        placed = []
        for name, tensor in tensors.items():
            placed.append(Placed(name, tensor.dtype, tuple(tensor.shape), offset))
            offset += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
        self._reserve(offset)
        for view, tensor in zip(self.read(placed).values(), tensors.values(), strict=True):
            view.copy_(tensor)
        return placed, offset

    def read(self, placed: Iterable[Placed]) -> Tensors:
        """Return views of what lies there; whoever writes there next changes them."""
        placed = list(placed)
        if not placed:
            return {}
        last = placed[-1]
        size = last.offset + last.dtype.itemsize * int(torch.Size(last.shape).numel())
        if self._map is None or len(self._map) < size:
            self._open()
        assert self._map is not None
        return {name: _view(self._map, dtype, shape, offset) for name, dtype, shape, offset in placed}

    def close(self) -> None:
        """Give the memory back, once nobody looks at it."""
        self._map = None
        with contextlib.suppress(OSError):
            os.close(self._file)
        if self._made and isinstance(self.handle, str):
            with contextlib.suppress(OSError):
                os.unlink(self.handle)

    def _reserve(self, size: int) -> None:
        """Grow to at least that many bytes."""
        if os.fstat(self._file).st_size < size:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file, 0, size)  # a full disk says so here, not by a bus error later
            else:
                os.ftruncate(self._file, size)
        if self._map is None or len(self._map) < size:
            self._open()

    def _open(self) -> None:
        """Map all of the file; the old mapping lives as long as views of it do."""
        if hasattr(mmap, "MAP_POPULATE"):  # all pages at once, not by a fault for each when a client first touches it
            self._map = mmap.mmap(self._file, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        else:
            self._map = mmap.mmap(self._file, 0)


def _new_file() -> int | str:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fedjourney")
    descriptor, path = tempfile.mkstemp(prefix="fedjourney-")
    if os.name == "nt":
        os.close(descriptor)
        return path
    os.unlink(path)
    return descriptor


def _view(memory: mmap.mmap, dtype: torch.dtype, shape: tuple[int, ...], offset: int) -> torch.Tensor:
    count = int(torch.Size(shape).numel())
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=offset).view(shape)
