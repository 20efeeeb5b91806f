"""What a message weighs: one function charges every transfer, whatever engine carries it."""

import functools
import json
from collections.abc import Mapping

import torch

from fedjourney.tensors import Tensors

_text = json.JSONEncoder(separators=(",", ":")).encode


def encoded_size(tensors: Tensors, numbers: Mapping[str, float | int | str] = {}) -> int:
    """Return the bytes of a payload: an 8-byte length, a JSON header of names, dtypes, shapes and numbers, raw values.

    This is the safetensors layout: `[{"name":["float32",[2,3]],…},{"loss":0.5}]`, its text counted part by part.
    """
    each = sum([_weight(name, t.dtype, t.shape) for name, t in tensors.items()])
    return 8 + len("[{},]") + each + max(len(tensors) - 1, 0) + len(_text(dict(numbers)))


@functools.lru_cache(4096)
def _weight(name: str, dtype: torch.dtype, shape: torch.Size) -> int:
    """Return what one tensor takes: its entry of the header without a comma, and its values."""
    entry = _text({name: [str(dtype).removeprefix("torch."), list(shape)]})
    return len(entry) - len("{}") + shape.numel() * dtype.itemsize
