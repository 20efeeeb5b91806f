"""Messages and contexts as bytes: the large ones stand apart, so that they travel once.

A `Message` of the simulation is mostly the `bytes` of its arrays, and all messages of a round share them. So a
pickle here (protocol 5) holds a number in place of every large `bytes`; each is a `Blob`, found again by
identity, which is safe because `bytes` never change. A pickle is also a snapshot: neither side can change what
the other holds, as across a network.
"""

import io
import pickle
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import IO, Any

from flwr.app import Array

LARGE = 2048  # bytes; below, a frame of its own costs more than it saves


class Blob:
    """Large bytes that were sent or are about to be; `token` names them on the wire."""

    __slots__ = ("__weakref__", "data", "token")

    def __init__(self, data: bytes, token: int) -> None:
        self.data, self.token = data, token


class Blobs:
    """Every blob that somebody still holds, found by the identity of its bytes."""

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0
        self._held: weakref.WeakValueDictionary[int, Blob] = weakref.WeakValueDictionary()

    def of(self, data: bytes) -> Blob:
        """Return the blob of these bytes, the same one as long as anybody holds it."""
        with self._lock:
            blob = self._held.get(id(data))  # its `data` is alive, so nothing else can have its id
            if blob is None:
                self._count += 1
                blob = self._held[id(data)] = Blob(data, self._count)
            return blob


class _Writer(pickle.Pickler):
    def __init__(self, file: IO[bytes], name: Callable[[bytes], int] | None) -> None:
        super().__init__(file, protocol=5)
        self._name = name

    def persistent_id(self, value: Any) -> int | None:
        if self._name is not None and type(value) is bytes and len(value) >= LARGE:
            return self._name(value)
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Array):  # without its cached chunks, which are memoryviews
            return _array, (value.dtype, value.shape, value.stype, value.data)
        return NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], find: Callable[[int], bytes]) -> None:
        super().__init__(file)
        self._find = find

    def persistent_load(self, token: Any) -> bytes:
        return self._find(token)


def _array(dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Array:
    array = Array.__new__(Array)  # its constructor is strict about what Flower itself is not
    array.dtype, array.shape, array.stype, array.data = dtype, shape, stype, data
    return array


def dumps(value: Any, name: Callable[[bytes], int] | None = None) -> bytes:
    """Pickle a value; `name` returns the number that stands for large bytes (None: they stay inside)."""
    file = io.BytesIO()
    _Writer(file, name).dump(value)
    return file.getvalue()


def dumps_apart(value: Any) -> tuple[bytes, list[bytes]]:
    """Pickle a value; return the pickle and its large bytes, numbered by their place in the list."""
    apart: list[bytes] = []
    places: dict[int, int] = {}

    def name(data: bytes) -> int:
        if id(data) not in places:
            places[id(data)] = len(apart)
            apart.append(data)
        return places[id(data)]

    return dumps(value, name), apart


def loads(pickled: bytes, find: Callable[[int], bytes]) -> Any:
    """Read a pickle of `dumps`."""
    return _Reader(io.BytesIO(pickled), find).load()


def write_frames(file: IO[bytes], frames: Sequence[bytes]) -> None:
    """Write frames of any sizes; large ones are not copied."""
    file.write(struct.pack(f"<I{len(frames)}Q", len(frames), *map(len, frames)))
    for frame in frames:
        file.write(frame)
    file.flush()


def read_frames(file: IO[bytes]) -> list[bytes]:
    """Read what `write_frames` wrote.

    Raises:
        EOFError: the other side is gone.
    """
    (count,) = struct.unpack("<I", _exactly(file, 4))
    sizes = struct.unpack(f"<{count}Q", _exactly(file, 8 * count))
    return [_exactly(file, size) for size in sizes]


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("the other side is gone")
    return data
