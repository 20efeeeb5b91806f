"""What a process has computed before, up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """Values of a pure function, the longest unused forgotten first.

    It changes when something is computed, never what: a value is what `make` returns for its key, and nobody changes it
    in place.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        """Keep values of at most `limit` bytes together; `size` weighs one."""
        self._limit, self._size, self._bytes = limit, size, 0
        self._found: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()  # clients of one process may be threads

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, made now if it is not there."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        made = make()
        with self._lock:
            if key not in self._found and self._size(made) <= self._limit:
                self._found[key] = made
                self._bytes += self._size(made)
                while self._bytes > self._limit:
                    self._bytes -= self._size(self._found.popitem(last=False)[1])
        return made
