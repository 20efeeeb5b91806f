"""Randomness without global state: every draw is named by (seed, purpose, …)."""

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_text = json.JSONEncoder(separators=(",", ":")).encode


@functools.lru_cache(4096, typed=True)  # clients of a round ask for the seeds of the same directions
def seed_for(seed: int, *parts: str | int) -> int:
    """Return a 63-bit seed for one purpose, the same on every machine.

    >>> seed_for(0, "batches", 3, 17) == seed_for(0, "batches", 3, 17)
    True
    >>> seed_for(0, "batches", 3, 17) == seed_for(0, "batches", 3, 18)
    False
    """
    return int.from_bytes(hashlib.sha256(_text([seed, *parts]).encode()).digest()[:8], "little") >> 1


class _Philox(threading.local):
    """One generator a thread, set to a key again and again: a new one would ask the system for entropy in vain."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(key=0)
        self.start: Any = self.generator.state  # counter 0, nothing buffered
        self.key = self.start["state"]["key"]

    def at(self, key: int) -> np.random.Philox:
        """Return the generator at the start of a key's stream."""
        self.key[0], self.key[1] = key & _WORD, key >> 64
        self.generator.state = self.start
        return self.generator


_WORD = (1 << 64) - 1
_philox = _Philox()


def words(seed: int, count: int) -> np.ndarray:
    """Return the first raw words of Philox-4x64-10's stream for a key, [count] uint64.

    NumPy promises them for ever, which it does for none of its distributions.

    >>> int(words(7, 1)[0]) == int(np.random.Philox(key=7).random_raw())
    True
    """
    return _philox.at(seed).random_raw(count)


def uniforms(seed: int, count: int) -> np.ndarray:
    """Return numbers in [0, 1), [count] float64: the upper 53 bits of raw words."""
    return (words(seed, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, count: int) -> np.ndarray:
    """Return a permutation of 0 … count-1, [count] int64, sorted by raw words."""
    return np.argsort(words(seed, count), kind="stable")


def uniform(key: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` float32 numbers in [0, 1) from an int64 key (a tensor, so it works in lanes).

    A multiply-xorshift hash (Steele et al. 2014, SplitMix64's finaliser) of key and position: no state.
    """
    x = key + torch.arange(1, count + 1, dtype=torch.int64, device=key.device) * -7046029254386353131
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    x = x ^ ((x >> 31) & ((1 << 33) - 1))
    return ((x >> 40) & 0xFFFFFF).to(torch.float32) / 16777216.0


def shuffled(seed: int, count: int) -> Iterator[int]:
    """Yield 0 … count-1 in a seeded order without building it: memory does not depend on `count`.

    A balanced Feistel network of six rounds over the next even power of two, walked until it falls inside
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = max(1, ((max(count - 1, 1)).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = [int(word) for word in words(seed, 6)]
    for start in range(count):
        value = start
        while True:
            left, right = value >> half, value & mask
            for key in keys:
                mixed = (right * 0x9E3779B97F4A7C15 + key) & 0xFFFFFFFFFFFFFFFF
                mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
                left, right = right, left ^ ((mixed >> 32) & mask)
            value = (left << half) | right
            if value < count:
                yield value
                break
