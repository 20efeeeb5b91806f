"""Attributes of other people's Flower strategies as tensors of a checkpoint, and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord

from fedjourney.tensors import Tensors

DECLARATION = "checkpointed"
FORM = "form"


def declared(found: type, known: Mapping[str, Sequence[str]]) -> Sequence[str] | None:
    """Return the attributes that are a strategy's memory, or None where nobody says.

    A class says so itself, as in `checkpointed = ("best", "patience_left")`, empty where it remembers nothing; those of
    Flower's that it derives from are `known`.
    """
    own = getattr(found, DECLARATION, None)
    if own is None and not found.__module__.startswith("flwr."):
        return None
    names = dict.fromkeys(own or ())
    for base in found.__mro__:
        if base.__module__.startswith("flwr."):
            if base is found and base.__name__ not in known and own is None:
                return None
            names |= dict.fromkeys(known.get(base.__name__, ()))
    return list(names)


def packed(values: Mapping[str, Any]) -> Tensors:
    """Return values as tensors: arrays as they are, how they lie in one another as JSON.

    Raises:
        TypeError: names the first type that cannot be kept.
    """
    if not values:
        return {}
    arrays: list[torch.Tensor] = []

    def put(kind: str, array: Any) -> list[Any]:
        arrays.append(torch.from_numpy(np.array(array)))
        return [kind, len(arrays) - 1]

    def form(value: Any) -> list[Any]:
        if value is None or type(value) in (bool, int, float, str):
            return ["plain", value]
        if isinstance(value, torch.Tensor):
            arrays.append(value.detach().cpu().clone())
            return ["tensor", len(arrays) - 1]
        if isinstance(value, np.ndarray):
            return put("array", value)
        if isinstance(value, np.generic):
            return put("number", value)
        if isinstance(value, ArrayRecord):
            return ["record", [[name, form(array.numpy())] for name, array in value.items()]]
        if type(value) in (list, tuple):
            return [type(value).__name__, [form(one) for one in value]]
        if type(value) is dict and all(type(key) in (str, int) for key in value):
            return ["dict", [[key, form(one)] for key, one in value.items()]]
        raise TypeError(f"{type(value).__name__} is none of numbers, texts, arrays, and lists and dictionaries of them")

    told = json.dumps([[name, form(value)] for name, value in values.items()]).encode()
    numbered = {str(number): tensor for number, tensor in enumerate(arrays)}
    return {FORM: torch.frombuffer(bytearray(told), dtype=torch.uint8), **numbered}


def unpacked(tensors: Tensors) -> dict[str, Any]:
    """Return the values that were packed."""
    if not tensors:
        return {}

    def value(form: list[Any]) -> Any:
        kind, told = form
        if kind == "plain":
            return told
        if kind == "tensor":
            return tensors[str(told)].clone()
        if kind in ("array", "number"):
            array = tensors[str(told)].numpy().copy()
            return array if kind == "array" else array[()]
        if kind == "record":
            return ArrayRecord({name: Array(value(one)) for name, one in told})
        if kind == "dict":
            return {key: value(one) for key, one in told}
        return (list if kind == "list" else tuple)(value(one) for one in told)

    return {name: value(form) for name, form in json.loads(tensors[FORM].numpy().tobytes())}
