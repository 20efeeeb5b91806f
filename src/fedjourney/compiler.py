"""The compiler of steps: traced once, for shapes that stay, and compiled by Inductor."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from fedjourney.batching import Batch
from fedjourney.tensors import Tensors

Step: TypeAlias = Callable[[Tensors, Tensors, Batch], tuple[Tensors, Tensors]]
"""(parameters, whatever else a step needs, a batch) -> the first two after the step."""

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


def compiled(step: Step) -> Step:
    """Return the step, compiled at its first call with tensors of each form.

    It must be pure: which operations run depends on nothing but the tensors' names and forms. That is why, other than
    under `torch.compile`, nothing has to be checked at each call but these.
    """
    found: dict[Any, Step] = {}

    def call(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        tensors = _flat(params, extra, batch)
        form = (*params, *extra, *[(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors])
        if form not in found:
            found[form] = _compiled(step, params, extra, batch)
        return found[form](params, extra, batch)

    return call


def _flat(params: Tensors, extra: Tensors, batch: Batch) -> list[torch.Tensor]:
    return [*params.values(), *extra.values(), *batch.x.values(), *batch.y.values(), batch.mask, batch.key]


def _compiled(step: Step, params: Tensors, extra: Tensors, batch: Batch) -> Step:
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helper processes that could outlive us
    from torch._inductor import compile as inductor

    names = [list(part) for part in (params, extra, batch.x, batch.y)]

    def flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
        left = iter(tensors)
        params, extra, x, y = ({name: next(left) for name in part} for part in names)
        params, extra = step(params, extra, Batch(x, y, next(left), next(left)))
        return [*(params[name] for name in names[0]), *(extra[name] for name in names[1])]

    tensors = _flat(params, extra, batch)
    own = {_max_pool: _max_pool2d_backward} if all(tensor.device.type == "cpu" for tensor in tensors) else {}
    run = inductor(make_fx(flat, decomposition_table=own, tracing_mode="fake")(*tensors), [*tensors])
    first, count = names[0], len(names[0])

    def call(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        stepped = run(*_flat(params, extra, batch))
        return dict(zip(first, stepped, strict=False)), dict(zip(names[1], stepped[count:], strict=True))

    return call
