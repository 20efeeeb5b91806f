"""What keeps one client's code from touching the run or its neighbours."""

import asyncio
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch

from fedjourney.exchange import Exchange
from fedjourney.tensors import Tensors
from fedjourney.updates import Reply

FAULTS = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What a client may raise; a KeyboardInterrupt is the user's."""

TAKEN = ("round", "client", "status")  # names of columns that stand beside a client's metrics
LONGEST = 500  # characters of a message that are kept


class Shared:
    """Parameters that every client receives and none may change.

    A copy for each client would cost a tenth of a small client's time; torch counts changes in place for nothing, but
    for those made behind its back (`.data`, `.numpy()`): `thorough` looks at every number, where code is not ours.
    """

    def __init__(self, exchange: Exchange, device: torch.device, thorough: bool = False) -> None:
        self._device, self._thorough = device, thorough
        self._pristine = exchange.shared  # never handed out: in process it is the server's own
        self._exchange = (exchange.kind, exchange.round, exchange.work)
        self._current: Tensors = {}
        self._copy()

    def of(self, exchange: Exchange) -> bool:
        """Return whether these are of that exchange, of which a client side sees one block after the other."""
        same = self._exchange == (exchange.kind, exchange.round, exchange.work)
        return same and self._pristine is exchange.shared

    def tensors(self) -> Tensors:
        """Return them, in a dictionary of the client's own."""
        return dict(self._current)

    def restored(self) -> bool:
        """Return whether somebody has changed them, and undo it."""
        if self._seen() == self._versions and not (self._thorough and self._differs()):
            return False
        self._copy()
        return True

    def _copy(self) -> None:
        self._current = {name: t.to(self._device, copy=True) for name, t in self._pristine.items()}
        self._versions = self._seen()

    def _differs(self) -> bool:
        current = self._current
        return any(not torch.equal(current[n], t.to(self._device)) for n, t in self._pristine.items())

    def _seen(self) -> list[int]:
        return [tensor._version for tensor in self._current.values()]


def well_formed(reply: Any) -> Reply:
    """Return a client's reply in the form that everything after it relies on.

    Raises:
        TypeError, ValueError: it has another; the message says what was expected and what came.
    """
    if not isinstance(reply, tuple) or len(reply) != 3:
        raise TypeError(f"expected a Reply(tensors, metrics, state), got {type(reply).__name__}")
    tensors, metrics, state = reply
    return Reply(_tensors(tensors, "tensors"), _metrics(metrics), _tensors(state, "state"))


def _tensors(value: Any, what: str) -> Tensors:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what}: expected tensors by name, got {type(value).__name__}")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{what}: expected tensors by name, got {type(tensor).__name__} under {name!r}")
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError(f'{what}: expected a dense tensor of numbers under "{name}", got another kind of tensor')
    return {name: tensor.detach() if tensor.requires_grad else tensor for name, tensor in value.items()}


def _metrics(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"metrics: expected numbers by name, got {type(value).__name__}")
    found = {}
    for name, number in value.items():
        if isinstance(number, torch.Tensor) and number.numel() == 1 and not number.is_complex():
            number = number.item()
        if not isinstance(name, str) or not isinstance(number, Real):
            raise TypeError(f"metrics: expected numbers by name, got {type(number).__name__} under {name!r}")
        if name in TAKEN:
            raise ValueError(f'metrics: "{name}" is the name of a column already; take another')
        found[name] = float(number)
    count = found.get("num-examples", 1.0)
    if not 0 < count < math.inf:
        raise ValueError(f'metrics: expected "num-examples" above 0, got {count}')
    return found


def described(error: BaseException) -> str:
    """Return type and message of an exception, shortened."""
    try:
        said = f"{type(error).__name__}: {error}"
    except FAULTS:  # its __str__ may raise
        said = type(error).__name__
    return said if len(said) <= LONGEST else said[:LONGEST] + "…"
