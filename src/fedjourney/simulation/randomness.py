"""Global random generators, seeded for each message: what a client draws depends on nothing but its own history."""

import hashlib
import importlib.abc
import importlib.util
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np


def number(bits: int, *parts: int | str) -> int:
    """Return a number of so many bits that depends on the parts alone, the same on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest, "little") & ((1 << bits) - 1)


def seed_globals(*parts: int | str) -> None:
    """Seed `random`, `numpy.random` and torch; torch only where it is imported, or as soon as it is."""
    random.seed(number(63, "random", *parts))
    np.random.seed(number(32, "numpy", *parts))
    _SeedTorchOnImport.seed = number(63, "torch", *parts)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        _seed(torch, _SeedTorchOnImport.seed)
    elif not any(isinstance(finder, _SeedTorchOnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SeedTorchOnImport())


def _seed(torch: Any, seed: int) -> None:
    """Seed torch on all its devices.

    For each device that is not there `torch.manual_seed` notes down who asked, a stack each time and kept for ever:
    where there is none but the CPU, a twentieth of a small client's time.
    """
    accelerator = getattr(torch, "accelerator", None)
    if accelerator is None or accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def kept_globals() -> Iterator[None]:
    """Leave the global generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    torch: Any = sys.modules.get("torch")
    states = None if torch is None else (torch.get_rng_state(), _cuda_states(torch))
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if states is not None:
            torch.set_rng_state(states[0])
            if states[1] is not None:
                torch.cuda.set_rng_state_all(states[1])


def _cuda_states(torch: Any) -> Any:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None


class _SeedTorchOnImport(importlib.abc.MetaPathFinder):
    """Seeds torch when a client imports it in the middle of a message: whichever worker that happens in."""

    seed = 0

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_seed(module: ModuleType) -> None:
                run(module)
                _seed(module, _SeedTorchOnImport.seed)

            spec.loader.exec_module = run_and_seed  # type: ignore[method-assign]
        return spec
