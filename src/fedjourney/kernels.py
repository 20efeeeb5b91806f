"""Operations of compiled steps and of lanes as they are, where what the compiler or vmap would write is slower."""

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_library = torch.library.Library("fedjourney", "DEF")
_aten = torch.ops.aten
_WINDOW = "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode"
_AS_TRACED = (torch.Tag.needs_fixed_stride_order,)

Window: TypeAlias = tuple[list[int], list[int], list[int], list[int], bool]
"""Kernel size, stride, padding, dilation, whether sizes are rounded up."""

_library.define(f"max_pool2d(Tensor input, {_WINDOW}) -> (Tensor, Tensor)", tags=_AS_TRACED)
_library.define(f"max_pool2d_backward(Tensor grad, Tensor indices, int[] size, {_WINDOW}) -> Tensor", tags=_AS_TRACED)
_library.define("add_product_(Tensor(a!) input, Tensor left, Tensor right, float factor) -> ()")


def _max_pool2d(input: torch.Tensor, *window: Any) -> tuple[torch.Tensor, torch.Tensor]:
    values, indices = _aten.max_pool2d_with_indices(input, *window)
    return values, indices


def _max_pool2d_backward(grad: torch.Tensor, indices: torch.Tensor, size: list[int], *window: Any) -> torch.Tensor:
    like = grad.new_empty(size).to(memory_format=torch.channels_last)  # only its form is looked at
    result: torch.Tensor = _aten.max_pool2d_with_indices_backward(grad, like, *window, indices)
    return result


def _add_product(input: torch.Tensor, left: torch.Tensor, right: torch.Tensor, factor: float) -> None:
    input.baddbmm_(left, right, alpha=factor)  # PyTorch's own, in which `alpha=` is right


_library.impl("max_pool2d", _max_pool2d, "CompositeExplicitAutograd")
_library.impl("max_pool2d_backward", _max_pool2d_backward, "CompositeExplicitAutograd")
_library.impl("add_product_", _add_product, "CompositeExplicitAutograd")
torch.library.register_fake("fedjourney::max_pool2d", _max_pool2d, lib=_library)
torch.library.register_fake("fedjourney::max_pool2d_backward", _max_pool2d_backward, lib=_library)
torch.library.register_fake("fedjourney::add_product_", lambda *arguments: None, lib=_library)

add_product_: Any = torch.ops.fedjourney.add_product_.default
"""`input += factor * (left @ right)`, in place: [L, M, N], [L, M, K], [L, K, N]."""


class _MaxPool(torch.autograd.Function):
    """Max-pooling with the channels of all lanes side by side, as a convolution in lanes leaves them."""

    @staticmethod
    def forward(input: torch.Tensor, window: Window) -> Any:
        return torch.ops.fedjourney.max_pool2d(input.contiguous(memory_format=torch.channels_last), *window)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        input, ctx.window = inputs
        ctx.size = list(input.shape)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return _MaxPoolBackward.apply(grads[0], *ctx.saved_tensors, ctx.size, ctx.window), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, input: torch.Tensor, window: Window) -> Any:
        values, indices = _MaxPool.apply(_merged(input, in_dims[0]), window)
        return (_split(values, info.batch_size), _split(indices, info.batch_size)), (1, 1)


class _MaxPoolBackward(torch.autograd.Function):
    @staticmethod
    def forward(grad: torch.Tensor, indices: torch.Tensor, size: list[int], window: Window) -> Any:
        grad = grad.contiguous(memory_format=torch.channels_last)
        return torch.ops.fedjourney.max_pool2d_backward(grad, indices, size, *window)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.indices, ctx.size, ctx.window = inputs[1:]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        raise RuntimeError("max-pooling in a compiled step has no second derivative; set [numerics] compile = false")

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, grad: torch.Tensor, indices: torch.Tensor, size: list[int], window: Window
    ) -> Any:
        lanes = info.batch_size
        size = [size[0], lanes * size[1], *size[2:]]
        return _split(
            _MaxPoolBackward.apply(_merged(grad, in_dims[0]), _merged(indices, in_dims[1]), size, window), lanes
        ), 1


def _merged(tensor: torch.Tensor, lanes: int) -> torch.Tensor:
    """Return [B, L * C, H, W]."""
    return tensor.movedim(lanes, 1).flatten(1, 2)


def _split(tensor: torch.Tensor, lanes: int) -> torch.Tensor:
    """Return [B, L, C, H, W]."""
    return tensor.unflatten(1, (lanes, -1))


class OwnPooling(TorchFunctionMode):
    """In a traced step, or in lanes: max-pooling of images by PyTorch's own kernels for channels that lie side by side.

    Inductor's gradient is a scalar loop, and `vmap` moves the lanes in front first, which takes the channels apart:
    together a third of a LeNet's step.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in (F.max_pool2d, torch.max_pool2d):
            return function(*args, **kwargs)
        return _max_pool(function, *args, **kwargs)


def _max_pool(
    function: Any,
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if return_indices or input.dim() != 4 or input.device.type != "cpu":
        return function(input, kernel_size, stride, padding, dilation, ceil_mode, *[True] * return_indices)
    window = (_pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation), ceil_mode)
    values, _ = _MaxPool.apply(input, window)
    return values


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
