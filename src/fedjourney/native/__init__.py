"""Kernels in C++ for compiled steps, built once for the machine by the compiler that such steps need anyway."""

import ctypes
import functools
import logging
import re
from pathlib import Path
from typing import Any

_log = logging.getLogger("fedjourney")

POINTER, SIZE, REAL, TRUTH = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_bool


@functools.cache
def built(name: str) -> Any:
    """Return the functions of `NAME.cpp`; None, told once, where they cannot be built."""
    try:
        from torch._inductor.codecache import CppCodeCache

        return CppCodeCache.load(_text(f"{name}.cpp"))
    except Exception as error:  # another compiler, another version of PyTorch, …
        _log.warning("kernels are PyTorch's, our %s cannot be built: %s", name, str(error).partition("\n")[0])
        return None


def _text(name: str) -> str:
    """Return a file with what it includes of this folder in its place: the text is what built kernels are known by."""
    text = (Path(__file__).parent / name).read_text()
    return re.sub(r'^#include "(.+)"$', lambda found: _text(found[1]), text, flags=re.MULTILINE)
