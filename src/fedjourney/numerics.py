"""`[numerics]`: the device, the arithmetic and the lanes that decide a run's bits.

Defaults come from a rule, never from a stopwatch. On a CPU it is one lane. On an accelerator, which one client cannot
fill, it is as many lanes as fit into half of the memory that is free, a power of two, at most the cohort and `MOST`;
a lane is counted as what its parameters need (itself, its gradient, its step, and a copy of each) and what one batch
keeps for its backward pass. What the rule chose is written into the run's `experiment.toml`.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from fedjourney.batching import Batch
from fedjourney.config import Experiment
from fedjourney.errors import ConfigError
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors

MOST = 256  # lanes that the rule takes
COPIES = 6  # of a lane's parameters that are alive at once
SHARE = 0.5  # of the free memory that lanes may take

AGREES = {torch.float32: 1e-4, torch.float64: 1e-9}  # relative, between a vectorised or compiled step and eager
AGREES_ROUNDED = 3e-2  # the same where products are rounded to bfloat16 or TF32


_RESTORED: list[Callable[[Any], object]] = [
    *(torch.set_grad_enabled, torch.set_num_threads, torch.set_default_dtype, torch.set_default_device),
    *(torch.set_float32_matmul_precision, torch.use_deterministic_algorithms),
    *(lambda on: torch.set_autocast_enabled("cpu", on), torch._C._set_mkldnn_enabled, os.chdir),
]
"""How what a client's code may change for everybody after it is put back, in the order of `_settings`."""


def _settings(thorough: bool) -> tuple[Any, ...]:
    """Return what is restored: what `applied` sets itself; then, with a thorough look, whatever code may have set."""
    ours = torch.is_grad_enabled(), torch.get_num_threads()
    if not thorough:
        return ours
    try:
        directory = os.getcwd()
    except OSError:  # it has been removed
        directory = None
    return (
        *ours,
        torch.get_default_dtype(),
        torch.empty(0).device,  # torch.get_default_device takes three times as long
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch._C._get_mkldnn_enabled(),
        directory,
    )


@dataclass(frozen=True)
class Numerics:
    """The table, resolved.

    Attributes:
        device: that clients compute on and models are evaluated on; the server folds and steps on the CPU.
        dtype: of parameters.
        threads: of each process.
        lanes: clients trained at once.
        compile: whether steps are compiled.
        tf32: whether products of float32 may be rounded to TF32 (CUDA).
        mixed_precision: whether the forward pass computes in bfloat16 where PyTorch's autocast holds that to be safe.
    """

    device: torch.device
    dtype: torch.dtype
    threads: int
    lanes: int
    compile: bool
    tf32: bool
    mixed_precision: bool

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> "Numerics":
        """Read a resolved table."""
        rest = {key: table[key] for key in ("threads", "lanes", "compile", "tf32", "mixed_precision")}
        return cls(device=torch.device(table["device"]), dtype=getattr(torch, table["dtype"]), **rest)

    @property
    def on_server(self) -> "Numerics":
        """The same for the server's own arithmetic: on the CPU, nothing rounded."""
        return replace(self, device=torch.device("cpu"), mixed_precision=False)

    @property
    def agreement(self) -> float:
        """How far a vectorised or compiled step may be from the plain one, relative."""
        rounded = self.mixed_precision or (self.tf32 and self.device.type == "cuda")
        return AGREES_ROUNDED if rounded else AGREES[self.dtype]

    def applied(self, thorough: bool = True) -> "_Applied":
        """Compute as the table says, with gradients; restore torch's global settings afterwards.

        Args:
            thorough: whatever was set, by whomever; else what this sets itself, where no code but ours is run.
        """
        return _Applied(self, thorough)


class _Applied:
    """What `Numerics.applied` enters, around every client: no generator, since small clients take a millisecond."""

    __slots__ = ("_before", "_numerics", "_rounding", "_thorough")

    def __init__(self, numerics: Numerics, thorough: bool) -> None:
        self._numerics, self._thorough = numerics, thorough
        self._rounding: ExitStack | None = None

    def __enter__(self) -> None:
        numerics = self._numerics
        self._before = _settings(self._thorough)
        with_gradients, threads, *_ = self._before
        cuda = numerics.device.type == "cuda"
        if cuda or numerics.mixed_precision:
            self._rounding = ExitStack()
            if cuda:
                self._rounding.enter_context(_cuda(numerics.tf32))
            if numerics.mixed_precision:
                self._rounding.enter_context(torch.autocast(numerics.device.type, torch.bfloat16, cache_enabled=False))
        if threads != numerics.threads:
            torch.set_num_threads(numerics.threads)
        if not with_gradients:
            torch.set_grad_enabled(True)

    def __exit__(self, *raised: Any) -> None:
        try:
            if self._rounding is not None:
                self._rounding.__exit__(*raised)
        finally:
            if (now := _settings(self._thorough)) != self._before:
                for restore, value, found in zip(_RESTORED, self._before, now, strict=False):  # the first ones, or all
                    if found != value and value is not None:
                        restore(value)


@contextmanager
def _cuda(tf32: bool) -> Iterator[None]:
    """Let CUDA's libraries be repeatable, and round as asked."""
    parts: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    repeatable = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not repeatable
    torch.use_deterministic_algorithms(True)
    for part in parts:
        part.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(repeatable, warn_only=only_warned)
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def with_device(experiment: Experiment) -> Experiment:
    """Return the experiment with "auto" resolved, its device known to be there.

    Raises:
        ConfigError: it is not.
    """
    asked = experiment["numerics"]["device"]
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", asked):
        raise ConfigError(f'[numerics] device: expected "cpu", "cuda", "cuda:1", "mps" or "auto", got {asked!r}.')
    here = _accelerators()
    device = (here[0].partition(":")[0] if here else "cpu") if asked == "auto" else asked
    if device != "cpu" and device not in here and f"{device}:0" not in here:
        there = ", ".join(["cpu", *here])
        raise ConfigError(
            f'[numerics] device: "{device}" is not on this machine; there are: {there}. '
            'Take "auto" for the best that is there; for CUDA install a torch that is built for it.'
        )
    if device == "mps" and experiment["numerics"]["dtype"] == "float64":
        raise ConfigError('[numerics] dtype: "mps" knows no float64. Take float32, or device = "cpu".')
    return _with(experiment, device=device)


def with_lanes(experiment: Experiment, cohort: int, example: Callable[[], tuple[Task, Tensors, Batch]]) -> Experiment:
    """Return the experiment with its lanes known: by the rule where the file leaves it to that (0).

    Args:
        experiment: its device resolved.
        cohort: clients a round.
        example: returns the task, parameters and a batch, by which a lane is measured; asked for on an accelerator.
    """
    table = experiment["numerics"]
    if table["lanes"]:
        return experiment
    device = torch.device(table["device"])
    if device.type == "cpu":
        return _with(experiment, lanes=1)
    lanes = max(1, min(cohort, MOST, int(SHARE * free_memory(device) / lane_bytes(*example()))))
    return _with(experiment, lanes=1 << (lanes.bit_length() - 1))


def lane_bytes(task: Task, params: Tensors, batch: Batch) -> int:
    """Return what a lane needs, in bytes: copies of its parameters, its batch, and what the backward pass reads."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task.loss(leaves, batch)
    del loss
    own = sum(tensor.numel() * tensor.element_size() for tensor in params.values())
    return COPIES * own + 2 * sum(kept.values())  # the gradients of what is kept, too


def free_memory(device: torch.device) -> int:
    """Return bytes that are free on an accelerator."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())


def device_name(device: torch.device) -> str:
    """Return what a device is, as far as bits depend on it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def accelerators(device: torch.device) -> int:
    """Return how many devices a name stands for: "cuda" for all of this machine, "cuda:1" and "cpu" for one."""
    return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1


def _accelerators() -> list[str]:
    if torch.cuda.is_available():
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else []


def _with(experiment: Experiment, **changed: Any) -> Experiment:
    return replace(experiment, tables=experiment.tables | {"numerics": experiment["numerics"] | changed})
