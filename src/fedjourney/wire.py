"""What a message weighs: one function charges every transfer, whatever engine carries it."""

import json
from collections.abc import Mapping

from fedjourney.tensors import Tensors

_text = json.JSONEncoder(separators=(",", ":")).encode


def encoded_size(tensors: Tensors, numbers: Mapping[str, float | int | str] = {}) -> int:
    """Return the bytes of a payload: an 8-byte length, a JSON header of names, dtypes, shapes and numbers, raw values.

    This is the safetensors layout; the header is really built, only the raw values are counted rather than copied.
    """
    header = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()}
    return 8 + len(_text([header, dict(numbers)])) + sum(t.numel() * t.element_size() for t in tensors.values())
