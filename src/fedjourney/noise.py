"""Noise that two machines can make again from a seed: raw Philox words, never a library's normals."""

import functools

import numpy as np
import torch

from fedjourney.seeds import words
from fedjourney.tensors import Tensors


def rademacher(seed: int, like: Tensors) -> Tensors:
    """Return ±1 in the shapes and dtypes of `like`, one bit of Philox's stream each (little-endian).

    >>> import torch
    >>> rademacher(7, {"w": torch.zeros(4)})["w"].tolist()
    [1.0, 1.0, 1.0, -1.0]
    """
    count = sum(tensor.numel() for tensor in like.values())
    bits = np.unpackbits(words(seed, -(-count // 64)).astype("<u8").view(np.uint8), count=count, bitorder="little")
    return _split(torch.from_numpy(bits).to(torch.int8) * 2 - 1, like)


def gaussian(seed: int, like: Tensors) -> Tensors:
    """Return numbers of N(0, 1) in the shapes and dtypes of `like`, 16 bits of Philox's stream each (little-endian).

    A piece k picks Φ⁻¹((k + ½) / 65536) from a table of float32: symmetric, |z| at most 4.33, variance 0.99998.

    >>> import torch
    >>> gaussian(7, {"w": torch.zeros(2)})["w"].tolist()
    [2.1195695400238037, -0.9792866706848145]
    """
    count = sum(tensor.numel() for tensor in like.values())
    pieces = words(seed, -(-count // 4)).astype("<u8").view("<u2")[:count]
    return _split(torch.from_numpy(normal_table()[pieces]), like)


@functools.cache
def normal_table() -> np.ndarray:
    """Return Φ⁻¹((k + ½) / 65536) for k = 0 … 65535, [65536] float32.

    Wichura 1988, Algorithm AS 241, https://doi.org/10.2307/2347330, its two branches that are reached here. It is
    made of float64 sums, products, quotients and square roots alone, which IEEE 754 fixes to the bit; libm's
    logarithm is not fixed, so it is summed from its series.
    """
    p = (np.arange(32768) + 0.5) / 65536
    q = p - 0.5
    centre = 0.180625 - q * q
    middle = _horner(_CENTRE[0], centre) * q / _horner(_CENTRE[1], centre)
    tail = np.sqrt(-_log(p)) - 1.6
    outer = -(_horner(_TAIL[0], tail) / _horner(_TAIL[1], tail))
    lower = np.where(q >= -0.425, middle, outer)
    return np.concatenate([lower, -lower[::-1]]).astype(np.float32)


_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
_TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258,
        3.64784832476320460504,
        5.76949722146069140550,
        4.63033784615654529590,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940,
        2.05319162663775882187,
        1.0,
    ),
)


def _horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Return the polynomial with the highest power first."""
    total = np.zeros_like(x)
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


def _log(x: np.ndarray) -> np.ndarray:
    """Return the natural logarithm: m 2^e with m in [√½, √2), log m = 2 artanh((m - 1) / (m + 1))."""
    m, e = np.frexp(x)
    small = m < 0.7071067811865476
    m, e = np.where(small, 2 * m, m), e - small
    s = (m - 1) / (m + 1)
    series = _horner(tuple(1 / (2 * k + 1) for k in range(14, -1, -1)), s * s)
    return 2 * s * series + e * 0.6931471805599453


def _split(flat: torch.Tensor, like: Tensors) -> Tensors:
    """Cut a vector into the shapes, dtypes and devices of `like`, in its order."""
    noise, start = {}, 0
    for name, tensor in like.items():
        noise[name] = flat[start : start + tensor.numel()].reshape(tensor.shape).to(tensor)
        start += tensor.numel()
    return noise
