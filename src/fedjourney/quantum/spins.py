"""Ground states of spin chains by exact diagonalisation, and the cluster state."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh

from fedjourney.quantum.gates import H
from fedjourney.quantum.states import apply_each, bit_signs, cz_signs, ring, zero_state


def ising_chain(
    qubits: int, field: float, *, frustration: float = 0.0, periodic: bool = True, bonds: Sequence[float] = ()
) -> csr_array:
    """Return the Hamiltonian [2^n, 2^n] of a chain in a transverse field, with next-nearest neighbours (ANNNI).

    H = -Σ b_i Z_i Z_{i+1} + κ Σ Z_i Z_{i+2} - h Σ X_i, with h = `field`, κ = `frustration`, b = `bonds` (1).
    """
    near = ring(qubits) if periodic else ring(qubits)[: qubits - 1]
    far = [(a, (a + 2) % qubits) for a in range(qubits if periodic else qubits - 2)]
    energy = -bit_signs(qubits, near).numpy() @ np.asarray(bonds or np.ones(len(near)))
    if frustration:
        energy += frustration * bit_signs(qubits, far).numpy().sum(1)
    places = np.arange(2**qubits)
    rows = np.concatenate([places] * (qubits + 1))
    columns = np.concatenate([places, *(places ^ (1 << bit) for bit in range(qubits))])
    values = np.concatenate([energy, np.full(qubits * 2**qubits, -field)])
    return csr_array((values, (rows, columns)), shape=(2**qubits, 2**qubits))


def ground_state(hamiltonian: csr_array, *, flip: bool = True, periodic: bool = True) -> np.ndarray:
    """Return the ground state [2^n] of a chain in a field h > 0 (real: all elements are).

    It is unique then (all off-diagonal elements are ≤ 0: Perron and Frobenius) and has the chain's symmetries, but
    for small fields other states lie closer than rounding. So the search begins with a symmetric vector, and what it
    found is averaged over the symmetries: flipping all spins, and shifts where the chain is periodic.
    """
    size = hamiltonian.shape[0]
    _, vectors = eigsh(hamiltonian, k=1, which="SA", v0=np.ones(size), tol=0)
    found, places = vectors[:, 0], np.arange(size)
    if flip:
        found = found + found[::-1]
    if periodic:
        total = np.zeros(size)
        for _ in range(size.bit_length() - 1):
            total += found[places]
            places = ((places << 1) & (size - 1)) | (places >> (size.bit_length() - 2))
        found = total
    found = found * np.sign(found.sum())
    return found / np.linalg.norm(found)


def cluster_state(qubits: int) -> torch.Tensor:
    """Return the cluster state [2^n, 2] (float64) on a ring: H on every qubit, CZ on all neighbours.

    It is the only state with ⟨Z_{i-1} X_i Z_{i+1}⟩ = 1 for all i.
    """
    start = zero_state(qubits, H)
    return apply_each(start, H.expand(qubits, 4, 4)) * cz_signs(qubits, ring(qubits))


def as_state(amplitudes: np.ndarray) -> np.ndarray:
    """Return states [..., 2^n, 2] (float32) from real amplitudes [..., 2^n]."""
    return np.stack([amplitudes, np.zeros_like(amplitudes)], -1).astype(np.float32)
