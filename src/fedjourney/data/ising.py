"""Phase of a transverse-field Ising chain, from measurements."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import cached
from fedjourney.data._common import labelled
from fedjourney.quantum.shadows import correlators, randomised
from fedjourney.quantum.spins import ground_state, ising_chain
from fedjourney.seeds import seed_for, uniforms

LABORATORIES = 10


def ising(
    source: Source,
    /,
    *,
    qubits: Annotated[int, Ge(3), Le(12)] = 8,
    chains: Annotated[int, Ge(10), Le(100_000)] = 600,
    shots: Annotated[int, Ge(1), Le(100_000)] = 100,
    bonds: Literal["equal", "random"] = "random",
    validation: Annotated[float, Ge(0), Lt(1)] = 0.2,
    test: Annotated[float, Ge(0), Lt(1)] = 0.3,
) -> Dataset:
    """Classical shadows of Ising chains in a transverse field: ordered (0) below h = 1, disordered (1) above.

    H = -Σ b_i Z_i Z_{i+1} - h Σ X_i on an open chain, h uniform in 0 … 2, the ground state by exact diagonalisation.
    Each state is measured in randomised Pauli bases; the input "shadow" [3, n, n] holds what the shots estimate of
    ⟨P_i P_j⟩ for P = X, Y, Z (and ⟨P_i⟩ on the diagonal). With `bonds = "random"` each b_i is +1 or -1: the phase is
    the same, but correlations along the bonds have any sign. The average of ⟨X_i⟩ tells the phase all the same, and a
    threshold on it is what must stand beside.

    Columns "label" and "laboratory", ten windows of the field h, for clients that have seen a part of the diagram.

    Args:
        source: cache, and the seed of fields, bonds, shots and splits.
        qubits: n.
        chains: how many.
        shots: measurements of each.
        bonds: signs of the couplings.
        validation: share of what is not test.
        test: share of all chains.

    References: Pfeuty 1970, The one-dimensional Ising model with a transverse field; Huang et al. 2022, Provably
    efficient machine learning for quantum many-body problems, https://arxiv.org/abs/2106.12627.
    """
    key = ["ising", qubits, chains, shots, bonds, validation, test, source.seed]

    def decode() -> Dataset:
        fields = 2 * uniforms(seed_for(source.seed, "fields"), chains)
        masks = (uniforms(seed_for(source.seed, "bonds"), chains) * 2**qubits).astype(np.int64)
        places = np.arange(2**qubits)
        shadows = []
        for chain, field in enumerate(fields):
            # flipping the spins of a mask turns the equal chain into the one with b_i = s_i s_{i+1}
            order = places ^ masks[chain] if bonds == "random" else places
            found = ground_state(ising_chain(qubits, max(field, 1e-3), periodic=False), periodic=False)[order]
            state = torch.from_numpy(np.stack([found, np.zeros_like(found)], -1))
            shadows.append(correlators(*randomised(state, shots, seed_for(source.seed, "shots", chain))))
        x = {"shadow": np.stack(shadows).astype(np.float32)}
        laboratory = (fields / 2 * LABORATORIES).astype(np.int64)
        labels = (fields > 1).astype(np.int64)
        return labelled("ising", x, labels, {"laboratory": laboratory}, source.seed, validation, test)

    return cached(source.cache_dir, key, decode)
