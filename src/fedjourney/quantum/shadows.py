"""Randomised Pauli measurements, and what is estimated from them (classical shadows).

Reference: Huang, Kueng and Preskill 2020, Predicting many properties of a quantum system from very few measurements,
https://arxiv.org/abs/2002.08953.
"""

import numpy as np
import torch

from fedjourney.quantum.gates import PAULI, H, as_real
from fedjourney.quantum.measuring import distribution
from fedjourney.quantum.states import apply_each, num_qubits
from fedjourney.seeds import seed_for, uniforms

_INTO_BASIS = torch.stack([H, H @ as_real(np.diag([1, -1j])), PAULI["I"]])
"""What turns the axis X, Y or Z into Z."""


def randomised(state: torch.Tensor, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (axes [shots, n] of 0, 1, 2 for X, Y, Z; outcomes [shots, n] of ±1) of a state [2^n, 2] (float64)."""
    n = num_qubits(state)
    axes = (uniforms(seed_for(seed, "axes"), shots * n) * 3).astype(np.int64).reshape(shots, n)
    turned = apply_each(state.expand(shots, *state.shape), _INTO_BASIS[torch.from_numpy(axes)])
    ends = distribution(turned).cumsum(-1).numpy()
    draws = uniforms(seed_for(seed, "outcomes"), shots)[:, None] * ends[:, -1:]
    places = (ends <= draws).sum(1)
    bits = (places[:, None] >> np.arange(n - 1, -1, -1)) & 1
    return axes, 1 - 2 * bits


def correlators(axes: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Return estimates [3, n, n] of ⟨P_i P_j⟩ for P = X, Y, Z, and of ⟨P_i⟩ on the diagonal.

    The mean over shots of Π 3·outcome where the axes were P, else 0: unbiased.
    """
    snapshots = 3 * outcomes[None] * (axes[None] == np.arange(3)[:, None, None])
    found = np.einsum("ati,atj->aij", snapshots, snapshots) / len(axes)
    places = np.arange(axes.shape[1])
    found[:, places, places] = snapshots.mean(1)
    return found


def agreements(axes: np.ndarray, outcomes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the mean product of outcomes [..., pairs] over the shots in which a pair's axes agreed.

    It estimates (⟨XX⟩ + ⟨YY⟩ + ⟨ZZ⟩) / 3, without bias given that some shot agreed; 0 where none did. Records are
    [..., shots, n].
    """
    first, second = pairs[:, 0], pairs[:, 1]
    agree = axes[..., first] == axes[..., second]
    total = (agree * outcomes[..., first] * outcomes[..., second]).sum(-2)
    return total / np.maximum(agree.sum(-2), 1)
