"""States, and gates applied to them."""

from collections.abc import Sequence

import numpy as np
import torch


def num_qubits(state: torch.Tensor) -> int:
    """Return n of a state [..., 2^n, 2]."""
    return state.shape[-2].bit_length() - 1


def zero_state(qubits: int, like: torch.Tensor, lead: Sequence[int] = ()) -> torch.Tensor:
    """Return |0…0⟩ [*lead, 2^n, 2] in the dtype and on the device of `like`."""
    state = like.new_zeros(2**qubits, 2)
    state[0, 0] = 1
    return state.expand(*lead, 2**qubits, 2)


def amplitudes(values: torch.Tensor, qubits: int) -> torch.Tensor:
    """Return the state whose amplitudes are `values` [..., m], m ≤ 2^n, padded with zeros and normalised.

    Nothing but zeros becomes |0…0⟩.
    """
    padded = torch.nn.functional.pad(values, (0, 2**qubits - values.shape[-1]))
    square = padded.square().sum(-1, keepdim=True)
    empty = (square == 0).to(values.dtype)
    first = zero_state(qubits, values)[..., 0]
    real = (padded + empty * first) / torch.sqrt(square + empty)
    return torch.stack([real, torch.zeros_like(real)], -1)


def apply(state: torch.Tensor, gate: torch.Tensor, wires: Sequence[int]) -> torch.Tensor:
    """Return gate [..., d, d] · state [..., 2^n, 2] on some qubits, in the order of `wires`."""
    n, wanted = num_qubits(state), list(wires)
    order = [wire for wire in range(n) if wire not in wanted] + wanted
    lead = state.dim() - 2
    parts = state.reshape(*state.shape[:-2], *[2] * n, 2)
    parts = parts.permute(*range(lead), *(lead + wire for wire in order), lead + n)
    parts = parts.reshape(*state.shape[:-2], 2 ** (n - len(wanted)), 2 * 2 ** len(wanted)) @ gate.mT
    shape, lead = parts.shape[:-2], parts.dim() - 2
    back = [order.index(wire) for wire in range(n)]
    parts = parts.reshape(*shape, *[2] * n, 2).permute(*range(lead), *(lead + place for place in back), lead + n)
    return parts.reshape(*shape, 2**n, 2)


def apply_each(state: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """Return the state after gates [..., n, 4, 4], one on each qubit.

    The last qubit is always the one that is acted upon, and then becomes the first: one product and one copy a gate.
    """
    n = num_qubits(state)
    for wire in reversed(range(n)):
        parts = state.reshape(*state.shape[:-2], 2 ** (n - 1), 4) @ gates[..., wire, :, :].mT
        parts = parts.unflatten(-1, (2, 2)).transpose(-3, -2)
        state = parts.reshape(*parts.shape[:-3], 2**n, 2)
    return state


def ring(qubits: int) -> list[tuple[int, int]]:
    """Return the pairs of neighbours (0, 1), (1, 2), …, (n-1, 0); two qubits are one pair.

    >>> ring(3)
    [(0, 1), (1, 2), (2, 0)]
    """
    return [(wire, (wire + 1) % qubits) for wire in range(qubits if qubits > 2 else qubits - 1)]


def cnot_order(qubits: int, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return the index [2^n] such that `state[..., index, :]` is the state after CNOTs on (control, target) pairs."""
    places = np.arange(2**qubits)
    for control, target in reversed(pairs):
        places = places ^ (_bit(places, qubits, control) << (qubits - 1 - target))
    return torch.from_numpy(places)


def cz_signs(qubits: int, pairs: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return the signs [2^n, 1] (float64) that CZs on pairs multiply a state by."""
    places = np.arange(2**qubits)
    signs = np.ones(2**qubits)
    for a, b in pairs:
        signs *= 1 - 2.0 * (_bit(places, qubits, a) & _bit(places, qubits, b))
    return torch.from_numpy(signs)[:, None]


def bit_signs(qubits: int, strings: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return [2^n, len(strings)] (float64): the outcome ±1 of a product of Z on some qubits, for every bit string."""
    places = np.arange(2**qubits)
    signs = np.ones((2**qubits, len(strings)))
    for column, string in enumerate(strings):
        for wire in string:
            signs[:, column] *= 1 - 2.0 * _bit(places, qubits, wire)
    return torch.from_numpy(signs)


def _bit(places: np.ndarray, qubits: int, wire: int) -> np.ndarray:
    return (places >> (qubits - 1 - wire)) & 1
