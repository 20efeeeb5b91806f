"""Noise that two machines can make again from a seed: raw Philox words, never a library's normals."""

import numpy as np
import torch

from fedjourney.tensors import Tensors


def rademacher(seed: int, like: Tensors) -> Tensors:
    """Return ±1 in the shapes and dtypes of `like`, one bit of Philox's stream each (little-endian).

    >>> import torch
    >>> rademacher(7, {"w": torch.zeros(4)})["w"].tolist()
    [1.0, 1.0, 1.0, -1.0]
    """
    count = sum(tensor.numel() for tensor in like.values())
    words = np.random.Philox(key=seed).random_raw(-(-count // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=count, bitorder="little")
    signs = torch.from_numpy(bits).to(torch.int8) * 2 - 1
    noise, start = {}, 0
    for name, tensor in like.items():
        noise[name] = signs[start : start + tensor.numel()].reshape(tensor.shape).to(tensor.dtype)
        start += tensor.numel()
    return noise
