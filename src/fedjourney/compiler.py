"""The compiler of steps: Inductor, but for what it makes slower than PyTorch's own kernel."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

_max_pool = torch.ops.aten.max_pool2d_with_indices_backward.default


@torch.library.custom_op("fedjourney::max_pool2d_backward", mutates_args=())
def _max_pool2d_backward(
    grad_output: torch.Tensor,
    inputs: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: torch.Tensor,
) -> torch.Tensor:
    """PyTorch's gradient of max-pooling, which no pass of the compiler looks into.

    Inductor writes it as a scalar loop, a fifth of a LeNet's step; PyTorch's own kernel is some ten times faster.
    """
    return _max_pool(grad_output, inputs, kernel_size, stride, padding, dilation, ceil_mode, indices)


@_max_pool2d_backward.register_fake
def _(grad_output: torch.Tensor, inputs: torch.Tensor, *rest: Any) -> torch.Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return the step, compiled at its first call for the shapes of that call."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helper processes that could outlive us
    return torch.compile(step, dynamic=False, backend=_inductor)


def _inductor(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.decomposition import select_decomp_table

    table = dict(select_decomp_table())
    if all(value.device.type == "cpu" for value in inputs if isinstance(value, torch.Tensor)):
        table[_max_pool] = _max_pool2d_backward
    return compile_fx(graph, list(inputs), decompositions=table)
