"""Products of matrices in compiled steps, by `native/products.cpp`.

A dense layer of a client multiplies ten rows by a weight. PyTorch hands that to a library whose blocking is made for
large matrices, and which on some processors does not use their widest vectors; ours, built by the compiler that
compiled steps need anyway, is two to three times as fast there.
"""

import functools
from typing import Any

import torch
from torch import fx

from fedjourney import kernels, native
from fedjourney.native import POINTER, REAL, SIZE, TRUTH

THIN = 64  # a product with at most so many rows, or so small a depth, is computed without packing

_library = torch.library.Library("fedjourney", "FRAGMENT")
_STRIDED = (torch.Tag.needs_exact_strides,)
_library.define("matrix_product(Tensor left, Tensor right) -> Tensor", tags=_STRIDED)
_library.define("add_matrix_product_(Tensor(a!) input, Tensor left, Tensor right, float factor) -> ()", tags=_STRIDED)


def take_products(traced: fx.GraphModule) -> None:
    """Let products of a traced step be computed here, where one thread of a CPU computes in float32."""
    nodes = [node for node in traced.graph.nodes if node.target in _OURS and _is_ours(node)]
    if torch.get_num_threads() > 1 or not nodes or _built() is None:
        return
    for node in nodes:
        node.target = _OURS[node.target]
    traced.recompile()


def _is_ours(node: fx.Node) -> bool:
    left, right = (argument.meta["val"] for argument in _factors(node))
    if {left.dtype, right.dtype} != {torch.float32} or {left.device.type, right.device.type} != {"cpu"}:
        return False
    return 0 not in left.shape and 0 not in right.shape


def _factors(node: fx.Node) -> Any:
    return node.args[:2] if node.target is torch.ops.aten.bmm.default else node.args[1:3]


@functools.cache
def _built() -> Any:
    """Return the functions of `products.cpp`; None where they cannot be built."""
    found = native.built("products")
    if found is not None:
        pointers, sizes, strides = [POINTER] * 3, [SIZE] * 4, [SIZE] * 3
        found.fedjourney_dot.argtypes = pointers + sizes
        found.fedjourney_axpy.argtypes = pointers + sizes + strides
        found.fedjourney_add_axpy.argtypes = [*pointers, *sizes, *strides, REAL]
        found.fedjourney_thick_scratch.argtypes, found.fedjourney_thick_scratch.restype = [SIZE] * 2, SIZE
        found.fedjourney_thick.argtypes = [*pointers, POINTER, *sizes, *strides, *strides, TRUTH, REAL]
    return found


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    (lanes, rows, depth), columns = left.shape, right.shape[2]
    out = left.new_empty(lanes, rows, columns)
    sizes, thin = (lanes, rows, depth, columns), _is_thin(left)
    if thin and right.is_contiguous():
        _built().fedjourney_axpy(*_places(left, right, out), *sizes, *left.stride())
    elif thin and left.is_contiguous() and right.mT.is_contiguous():
        _built().fedjourney_dot(*_places(left, right, out), *sizes)
    else:
        _thick(left, right, out)
    return out


def _add_product(input: torch.Tensor, left: torch.Tensor, right: torch.Tensor, factor: float) -> None:
    (lanes, rows, depth), columns = left.shape, right.shape[2]
    if not input.is_contiguous():
        kernels.add_product_(input, left, right, factor)
    elif _is_thin(left) and right.is_contiguous():
        places = _places(left, right, input)
        _built().fedjourney_add_axpy(*places, lanes, rows, depth, columns, *left.stride(), factor)
    else:
        _thick(left, right, input, True, factor)


def _is_thin(left: torch.Tensor) -> bool:
    return min(left.shape[1], left.shape[2]) <= THIN


def _thick(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, adds: bool = False, factor: float = 1.0) -> None:
    (lanes, rows, depth), columns = left.shape, right.shape[2]
    scratch = left.new_empty(_built().fedjourney_thick_scratch(depth, columns))
    places, strides = _places(left, right, out, scratch), (*left.stride(), *right.stride())
    _built().fedjourney_thick(*places, lanes, rows, depth, columns, *strides, adds, factor)


def _places(*tensors: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)


def _form(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left.new_empty(left.shape[0], left.shape[1], right.shape[2])


_library.impl("matrix_product", _product, "CompositeExplicitAutograd")
_library.impl("add_matrix_product_", _add_product, "CompositeExplicitAutograd")
torch.library.register_fake("fedjourney::matrix_product", _form, lib=_library)
torch.library.register_fake("fedjourney::add_matrix_product_", lambda *arguments: None, lib=_library)

_OURS: dict[Any, Any] = {
    torch.ops.aten.bmm.default: torch.ops.fedjourney.matrix_product.default,
    kernels.add_product_: torch.ops.fedjourney.add_matrix_product_.default,
}
"""PyTorch's product in lanes, and that added in place -> the same, ours."""
