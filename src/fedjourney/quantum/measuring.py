"""What is read from states: distributions, expectations, shots, and gradients that a device could measure."""

from collections.abc import Callable, Sequence
from math import pi, sqrt
from typing import Any, TypeAlias

import torch

from fedjourney.quantum.gates import PAULI
from fedjourney.quantum.states import apply, num_qubits
from fedjourney.seeds import uniform

Run: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(angles [K], state [B, 2^n, 2], or what it is made of [B, …]) -> distribution of outcomes [B, O]."""

TWO_TERMS = ((pi / 2, 0.5), (-pi / 2, -0.5))
FOUR_TERMS = (
    (pi / 2, (sqrt(2) + 1) / (4 * sqrt(2))),
    (-pi / 2, -(sqrt(2) + 1) / (4 * sqrt(2))),
    (3 * pi / 2, -(sqrt(2) - 1) / (4 * sqrt(2))),
    (-3 * pi / 2, (sqrt(2) - 1) / (4 * sqrt(2))),
)
"""Shifts and factors of the derivative: two terms for exp(-iθG/2) with G² = 1, four for controlled rotations.

References: Schuld et al. 2019, https://arxiv.org/abs/1811.11184; Anselmetti et al. 2021,
https://arxiv.org/abs/2104.05695, for the four terms.
"""
_EXAMPLE = -3335678366873096957  # an odd stride between the keys of examples, unlike the one inside `uniform`
_SHIFT = 2862933555777941757  # tells the keys of shifted runs from those of the run itself


def distribution(state: torch.Tensor, wires: Sequence[int] | None = None) -> torch.Tensor:
    """Return probabilities [..., 2^m] of the bits of some qubits (in ascending order; all by default)."""
    found, n = state.square().sum(-1), num_qubits(state)
    if wires is None or len(wires) == n:
        return found
    lead = found.dim() - 1
    rest = [lead + wire for wire in range(n) if wire not in wires]
    return found.reshape(*found.shape[:-1], *[2] * n).sum(rest).flatten(lead)


def expectation(state: torch.Tensor, pauli: str, wires: Sequence[int]) -> torch.Tensor:
    """Return ⟨P⟩ [...] of a Pauli string, a letter for each of `wires`."""
    acted = state
    for letter, wire in zip(pauli, wires, strict=True):
        acted = apply(acted, PAULI[letter].to(state), [wire])
    return (state * acted).sum((-2, -1))


def mixed(key: torch.Tensor) -> torch.Tensor:
    """Return int64 whose bits all depend on all bits of `key` (SplitMix64's finaliser).

    Keys of neighbouring steps are one stride of `uniform` apart; mixed, their streams do not overlap.
    """
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        key = (key ^ ((key >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return key ^ ((key >> 31) & ((1 << 33) - 1))


def example_keys(examples: torch.Tensor, key: torch.Tensor | None) -> torch.Tensor:
    """Return a noise key [B] for each of the examples [B, …].

    With a step's `key` (`Batch.key`) by place in the batch. Without one, in evaluation, by the bits of the example
    itself, so that how examples are cut into blocks changes no outcome.
    """
    if key is not None:
        return mixed(mixed(key) + torch.arange(len(examples), device=examples.device) * _EXAMPLE)
    bits = examples.detach().flatten(1).to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    return mixed((mixed(bits + torch.arange(bits.shape[1], device=bits.device) * _EXAMPLE)).sum(1))


def frequencies(probabilities: torch.Tensor, shots: int, keys: torch.Tensor) -> torch.Tensor:
    """Return how often each outcome came, [..., O] in shares of `shots` draws, by keys [...]."""
    draws = uniform(keys[..., None], shots).to(probabilities.dtype)
    ends = probabilities.cumsum(-1)
    ends = ends / ends[..., -1:]
    below = (draws[..., :, None] < ends[..., None, :]).to(probabilities.dtype).mean(-2)
    return torch.diff(below, dim=-1, prepend=torch.zeros_like(below[..., :1]))


def measured(
    run: Run,
    angles: torch.Tensor,
    state: torch.Tensor,
    *,
    shots: int = 0,
    keys: torch.Tensor | None = None,
    shift: bool = False,
    four_terms: Sequence[int] = (),
) -> torch.Tensor:
    """Return the distribution of outcomes [B, O] of a circuit, exact or from shots.

    Args:
        run: the circuit. Every angle must be used once: where one parameter turns several gates, `angles` holds it
            several times, and its gradient is the sum over occurrences, as it must be.
        angles: [K], in radians.
        state: [B, 2^n, 2] that the circuit begins with, or whatever else of the examples [B, …] `run` makes it from;
            with `shift` in lanes, `run` must not close over tensors.
        shots: draws from the distribution, 0 = exact.
        keys: [B] int64, needed for shots.
        shift: gradients of `angles` from shifted runs, as a device would measure them (with as many shots each);
            else from the simulator, exactly. `state` gets a gradient only then.
        four_terms: the angles of controlled rotations, for which two shifted runs are not enough.
    """
    if shots and keys is None:
        raise ValueError("shots need keys")
    if shift:
        keys = torch.zeros(len(state), dtype=torch.int64, device=state.device) if keys is None else keys
        return _Shifted.apply(angles, state, keys, run, shots, tuple(four_terms))
    exact = run(angles, state)
    return exact + (frequencies(exact, shots, keys) - exact).detach() if shots and keys is not None else exact


def _drawn(run: Run, angles: torch.Tensor, state: torch.Tensor, shots: int, keys: torch.Tensor) -> torch.Tensor:
    exact = run(angles, state)
    return frequencies(exact, shots, keys) if shots else exact


class _Shifted(torch.autograd.Function):
    """A circuit whose gradient comes from runs with shifted angles."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        angles: torch.Tensor, state: torch.Tensor, keys: torch.Tensor, run: Run, shots: int, four: tuple[int, ...]
    ) -> torch.Tensor:
        return _drawn(run, angles, state, shots, keys)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        angles, state, keys, ctx.run, ctx.shots, ctx.four = inputs
        ctx.save_for_backward(angles, state, keys)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        angles, state, keys = ctx.saved_tensors
        slopes = []
        for place in range(angles.shape[-1]):
            unit = torch.zeros_like(angles)
            unit[..., place] = 1
            slope = torch.zeros_like(grad)
            for number, (shift, factor) in enumerate(FOUR_TERMS if place in ctx.four else TWO_TERMS):
                own = mixed(mixed(keys + (4 * place + number + 1)) + _SHIFT)
                slope = slope + factor * _drawn(ctx.run, angles + shift * unit, state, ctx.shots, own)
            slopes.append((slope * grad).sum())
        return torch.stack(slopes), None, None, None, None, None
