"""A second device without a second device: tensors whose numbers lie in CPU memory, and that mix with no CPU tensor.

PyTorch lets a backend be written in Python. On this one, named "second", every operation computes with the CPU's own
kernel; but as on a GPU, an operation on tensors of two devices is an error (numbers without dimensions are allowed),
and `.numpy()` is none of its methods. So what runs here has put every tensor where it belongs.
"""

from typing import Any

import torch
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("second")
DEVICE = torch.device("second:0")


class Second(torch.Tensor):
    """A tensor on the second device; `raw` holds its numbers."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> "Second":
        made = torch.Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )
        made.raw = raw
        return made

    def tolist(self) -> Any:
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        told = kwargs.get("device")
        out = DEVICE if told is None else torch.device(told)
        moves = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if not moves:
            strangers = []
            tree_map_only(torch.Tensor, lambda t: strangers.append(t), (args, kwargs))
            for tensor in strangers:
                if not isinstance(tensor, Second) and tensor.dim() > 0:
                    raise RuntimeError(f"{func}: expected all tensors on {DEVICE}, got one on {tensor.device}")
        if told is not None:
            kwargs["device"] = "cpu"
        raw_args, raw_kwargs = tree_map_only(Second, lambda t: t.raw, (args, kwargs))
        result = func(*raw_args, **raw_kwargs)
        if func is torch.ops.aten._local_scalar_dense.default or out.type == "cpu":
            return result
        if func._schema.name.endswith("_"):  # in place
            return args[0] if func._schema.returns else None
        return tree_map_only(torch.Tensor, Second, result)


_library = torch.library.Library("aten", "IMPL")


def _empty(size: Any, **options: Any) -> torch.Tensor:
    return Second(torch.empty(size, dtype=options.get("dtype")))


def _empty_strided(size: Any, stride: Any, **options: Any) -> torch.Tensor:
    return Second(torch.empty_strided(size, stride, dtype=options.get("dtype")))


_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
