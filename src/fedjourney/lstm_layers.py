"""LSTM layers in compiled steps, as kernels of our own: the compiler would write each of a sequence's steps out.

PyTorch's own kernel computes ten rows a step at half of what a processor can do, keeps nothing for the gradient of
lanes, and is taken apart when a step is traced: minutes of compilation. `native/lstm.cpp` stays one operation.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from fedjourney import native
from fedjourney.native import POINTER, SIZE

_library = torch.library.Library("fedjourney", "FRAGMENT")
_STRIDED = (torch.Tag.needs_exact_strides,)
_LAYER = "Tensor x, Tensor inward, Tensor across"
_library.define(f"lstm({_LAYER}, Tensor bias, Tensor? peephole) -> (Tensor, Tensor, Tensor)", tags=_STRIDED)
_library.define(
    f"lstm_backward(Tensor grad, {_LAYER}, Tensor? peephole, Tensor h, Tensor gates, Tensor c)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=_STRIDED,
)

_tracing: ContextVar[bool] = ContextVar("tracing", default=False)


@contextmanager
def in_traced_step() -> Iterator[None]:
    """Mark what is traced for the compiler: there, and nowhere else, layers may be computed here."""
    token = _tracing.set(True)
    try:
        yield
    finally:
        _tracing.reset(token)


def is_ours(x: Tensor) -> bool:
    """Return whether layers that read x are computed here: in a traced step, by one thread of a CPU, in float32."""
    if not _tracing.get() or x.dtype != torch.float32 or x.device.type != "cpu" or torch.get_num_threads() > 1:
        return False
    return 0 not in x.shape and _built() is not None


@functools.cache
def _built() -> Any:
    found = native.built("lstm")
    if found is not None:
        found.fedjourney_scratch.argtypes, found.fedjourney_scratch.restype = [SIZE] * 4, SIZE
        found.fedjourney_lstm.argtypes = [POINTER] * 9 + [SIZE] * 5
        found.fedjourney_lstm_backward.argtypes = [POINTER] * 14 + [SIZE] * 5
    return found


class LSTMLayer(torch.autograd.Function):
    """A layer [… T, B, I] -> its states [… T, B, H] from weights [… 4H, I], [… 4H, H], bias [… 4H], peepholes [… 3, H].

    Peepholes (or None) act as in `PeepholeLSTM`; gates are in PyTorch's order: i, f, g, o. There may be lanes in front.
    """

    @staticmethod
    def forward(x: Tensor, inward: Tensor, across: Tensor, bias: Tensor, peephole: Tensor | None) -> Any:
        """Return states, and what the gradient needs: gates and cells."""
        told = (_flat(x, 3), _flat(inward, 2), _flat(across, 2), _flat(bias, 1), _flat(peephole, 2))
        return tuple(made.reshape(*x.shape[:-3], *made.shape[1:]) for made in torch.ops.fedjourney.lstm(*told))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the gradient needs."""
        x, inward, across, _, peephole = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, inward, across, peephole, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Return the gradients of the five inputs."""
        found = _Backward.apply(grads[0], *ctx.saved_tensors)
        return (*found[:4], None if ctx.saved_tensors[3] is None else found[4])

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        """Put the lanes in front."""
        return LSTMLayer.apply(*_with_lanes(info, in_dims, arguments)), (0, 0, 0)


class Last(torch.autograd.Function):
    """A gradient that has none of its own."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Refuse.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("recurrent kernels have no second derivative; take a model without recurrence")


class _Backward(Last):
    @staticmethod
    def forward(*tensors: Any) -> Any:
        grad, x, inward, across, peephole, h, gates, c = tensors
        lanes = x.shape[:-3]
        told = (_flat(grad, 3), _flat(x, 3), _flat(inward, 2), _flat(across, 2), _flat(peephole, 2))
        found = torch.ops.fedjourney.lstm_backward(*told, _flat(h, 3), _flat(gates, 3), _flat(c, 3))
        return tuple(made.reshape(*lanes, *made.shape[1:]) for made in found)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return _Backward.apply(*_with_lanes(info, in_dims, arguments)), (0,) * 5


def _flat(tensor: Tensor | None, dims: int) -> Tensor | None:
    """Return the tensor with all lanes, none being one, along its first dimension."""
    return None if tensor is None else tensor.reshape(-1, *tensor.shape[-dims:])


def _with_lanes(info: Any, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]) -> list[Any]:
    return [
        one if one is None else one.expand(info.batch_size, *one.shape) if dim is None else one.movedim(dim, 0)
        for one, dim in zip(arguments, in_dims, strict=True)
    ]


def _lstm(x: Tensor, inward: Tensor, across: Tensor, bias: Tensor, peephole: Tensor | None) -> tuple[Tensor, ...]:
    lanes, steps, count, inputs = x.shape
    width = across.shape[2]
    sizes, h, gates, c = (steps, count, inputs, width), *_form(x, inward, across, bias, peephole)
    given = [_whole(tensor) for tensor in (x, inward, across, bias, peephole)]
    scratch = x.new_empty(_built().fedjourney_scratch(*sizes))
    _built().fedjourney_lstm(*map(_place, (*given, h, gates, c, scratch)), lanes, *sizes)
    return h, gates, c


def _form(x: Tensor, inward: Tensor, across: Tensor, bias: Tensor, peephole: Tensor | None) -> tuple[Tensor, ...]:
    shape, width = x.shape[:3], across.shape[2]
    return x.new_empty(*shape, width), x.new_empty(*shape, 4 * width), x.new_empty(*shape, width)


def _lstm_backward(*tensors: Any) -> tuple[Tensor, ...]:
    _, x, _, across, *_ = tensors
    (lanes, steps, count, inputs), width = x.shape, across.shape[2]
    sizes, found = (steps, count, inputs, width), _form_backward(*tensors)
    given = [_whole(tensor) for tensor in tensors]
    scratch = x.new_empty(_built().fedjourney_scratch(*sizes))
    _built().fedjourney_lstm_backward(*map(_place, (*given, *found, scratch)), lanes, *sizes)
    return found


def _form_backward(*tensors: Any) -> tuple[Tensor, ...]:
    _, x, inward, across, peephole, *_ = tensors
    shapes = [
        x.shape,
        inward.shape,
        across.shape,
        inward.shape[:2],
        (len(x), 0) if peephole is None else peephole.shape,
    ]
    return tuple(x.new_empty(shape) for shape in shapes)


def _whole(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _place(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


_library.impl("lstm", _lstm, "CompositeExplicitAutograd")
_library.impl("lstm_backward", _lstm_backward, "CompositeExplicitAutograd")
torch.library.register_fake("fedjourney::lstm", _form, lib=_library)
torch.library.register_fake("fedjourney::lstm_backward", _form_backward, lib=_library)
