"""Products of thin matrices in compiled steps: ours where a batch is a few rows, PyTorch's elsewhere.

A dense layer of a client multiplies ten rows by a weight. PyTorch hands that to a library whose blocking is made for
large matrices, and which on some processors does not use their widest vectors; `products.cpp`, built by the compiler
that compiled steps need anyway, is two to three times as fast on such shapes.
"""

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import torch
from torch import fx

from fedjourney import kernels

_log = logging.getLogger("fedjourney")
THIN = 64  # a product with at most so many rows, or so small a depth, is computed here

_library = torch.library.Library("fedjourney", "FRAGMENT")
_STRIDED = (torch.Tag.needs_exact_strides,)
_library.define("thin_product(Tensor left, Tensor right) -> Tensor", tags=_STRIDED)
_library.define("add_thin_product_(Tensor(a!) input, Tensor left, Tensor right, float factor) -> ()", tags=_STRIDED)


def take_thin_products(traced: fx.GraphModule) -> None:
    """Let thin products of a traced step be computed here, where one thread of a CPU computes in float32."""
    nodes = [node for node in traced.graph.nodes if node.target in _OURS and _is_thin(node)]
    if torch.get_num_threads() > 1 or not nodes or _built() is None:
        return
    for node in nodes:
        node.target = _OURS[node.target]
    traced.recompile()


def _is_thin(node: fx.Node) -> bool:
    left, right = (argument.meta["val"] for argument in _factors(node))
    if {left.dtype, right.dtype} != {torch.float32} or {left.device.type, right.device.type} != {"cpu"}:
        return False
    return 0 < min(left.shape[1], left.shape[2]) <= THIN and 0 not in right.shape


def _factors(node: fx.Node) -> Any:
    return node.args[:2] if node.target is torch.ops.aten.bmm.default else node.args[1:3]


@functools.cache
def _built() -> Any:
    """Return the functions of `products.cpp`, built once for this machine; None, told, where that cannot be done."""
    try:
        from torch._inductor.codecache import CppCodeCache

        found = CppCodeCache.load(Path(__file__).with_suffix(".cpp").read_text())
        pointers, sizes, strides = [ctypes.c_void_p] * 3, [ctypes.c_int64] * 4, [ctypes.c_int64] * 3
        found.fedjourney_dot.argtypes = pointers + sizes
        found.fedjourney_axpy.argtypes = pointers + sizes + strides
        found.fedjourney_add_axpy.argtypes = [*pointers, *sizes, *strides, ctypes.c_float]
    except Exception as error:  # another compiler, another version of PyTorch, …
        _log.warning("products of thin matrices are PyTorch's, ours cannot be built: %s", str(error).partition("\n")[0])
        return None
    return found


def _thin_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    (lanes, rows, depth), columns = left.shape, right.shape[2]
    if right.is_contiguous():
        out = left.new_empty(lanes, rows, columns)
        _built().fedjourney_axpy(*_places(left, right, out), lanes, rows, depth, columns, *left.stride())
    elif left.is_contiguous() and right.mT.is_contiguous():
        out = left.new_empty(lanes, rows, columns)
        _built().fedjourney_dot(*_places(left, right, out), lanes, rows, depth, columns)
    else:
        out = torch.bmm(left, right)
    return out


def _add_thin_product(input: torch.Tensor, left: torch.Tensor, right: torch.Tensor, factor: float) -> None:
    (lanes, rows, depth), columns = left.shape, right.shape[2]
    if input.is_contiguous() and right.is_contiguous():
        places = _places(left, right, input)
        _built().fedjourney_add_axpy(*places, lanes, rows, depth, columns, *left.stride(), factor)
    else:
        kernels.add_product_(input, left, right, factor)


def _places(*tensors: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)


def _form(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left.new_empty(left.shape[0], left.shape[1], right.shape[2])


_library.impl("thin_product", _thin_product, "CompositeExplicitAutograd")
_library.impl("add_thin_product_", _add_thin_product, "CompositeExplicitAutograd")
torch.library.register_fake("fedjourney::thin_product", _form, lib=_library)
torch.library.register_fake("fedjourney::add_thin_product_", lambda *arguments: None, lib=_library)

_OURS: dict[Any, Any] = {
    torch.ops.aten.bmm.default: torch.ops.fedjourney.thin_product.default,
    kernels.add_product_: torch.ops.fedjourney.add_thin_product_.default,
}
"""PyTorch's product in lanes, and that added in place -> the same for thin matrices."""
