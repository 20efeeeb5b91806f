"""The compiler of steps: traced once, for shapes that stay, and compiled by Inductor."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from fedjourney import kernels, lstm_layers, products
from fedjourney.batching import Batch
from fedjourney.tensors import Tensors

Step: TypeAlias = Callable[[Tensors, Tensors, Batch], tuple[Tensors, Tensors]]
"""(parameters, whatever else a step needs, a batch) -> the first two after the step."""

_aten = torch.ops.aten


def compiled(step: Step) -> Step:
    """Return the step, compiled at its first call with tensors of each form.

    It must be pure: which operations run depends on nothing but the tensors' names and forms. That is why, other than
    under `torch.compile`, nothing has to be checked at each call but these. What is returned takes over the parameters
    that it is given: some it changes in place.
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
        with kernels.OwnPooling(), lstm_layers.in_traced_step():
            params, extra = step(params, extra, Batch(x, y, next(left), next(left)))
        return [*(params[name] for name in names[0]), *(extra[name] for name in names[1])]

    tensors = _flat(params, extra, batch)
    traced = make_fx(flat, tracing_mode="fake")(*tensors)
    changed = _add_products_in_place(traced, len(names[0]))
    products.take_products(traced)
    run = inductor(traced, [*tensors])

    def call(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        made = iter(run(*_flat(params, extra, batch)))
        after = {name: params[name] if place in changed else next(made) for place, name in enumerate(names[0])}
        return after, dict(zip(names[1], made, strict=True))

    return call


def _add_products_in_place(traced: fx.GraphModule, params: int) -> set[int]:
    """Let steps `p + factor * (a @ b)` change p in place; return which of the first outputs are gone for that.

    So moves a dense layer's weight in most updates. Written out, the product is as large as the weight: made, read
    and scaled it costs about twice the memory's bandwidth of a product that is added where it belongs.
    """
    graph = traced.graph
    inputs, end = graph.find_nodes(op="placeholder"), graph.output_node()
    outputs: list[fx.Node] = list(end.args[0])  # type: ignore[arg-type]
    storages = [_storage(output) for output in outputs]
    changed = set()
    for place, (before, after) in enumerate(zip(inputs[:params], outputs[:params], strict=True)):
        found = _sum_with_product(before, after)
        if found is None or _storage(before) in storages or storages.count(_storage(after)) > 1:
            continue
        left, right, factor = found
        with graph.inserting_before(end):
            graph.call_function(kernels.add_product_, (before, left, right, factor))
        changed.add(place)
    end.args = ([output for place, output in enumerate(outputs) if place not in changed],)
    graph.eliminate_dead_code()
    traced.recompile()
    return changed


def _storage(node: fx.Node) -> int:
    return int(node.meta["val"].untyped_storage()._cdata)


def _sum_with_product(before: fx.Node, after: fx.Node) -> tuple[fx.Node, fx.Node, float] | None:
    """Return a, b and factor where `after` is `before + factor * (a @ b)`, in batches."""
    if not (_only(after, _aten.add.Tensor) and after.args[0] is before):
        return None
    scaled: Any = after.args[1]
    if not (_only(scaled, _aten.mul.Tensor) and isinstance(scaled.args[1], float)):
        return None
    factor, turned = scaled.args[1], False
    product: Any = scaled.args[0]
    while _only(product, _aten.transpose.int) or _only(product, _aten._unsafe_view.default):
        inner: Any = product.args[0]
        if product.target is _aten.transpose.int:
            if sorted(int(dim) % 3 for dim in product.args[1:]) != [1, 2]:
                return None
            turned = not turned
        elif inner.meta["val"].shape != product.meta["val"].shape:
            return None
        product = inner
    if turned or not _only(product, _aten.bmm.default) or product.meta["val"].shape != before.meta["val"].shape:
        return None
    left, right = product.args
    return left, right, factor


def _only(node: Any, operation: Any) -> bool:
    """Return whether the node is that operation and something used once."""
    return isinstance(node, fx.Node) and node.target is operation and len(node.users) == 1
