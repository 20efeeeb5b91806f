"""Excited cluster states."""

from math import pi
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._common import labelled
from fedjourney.quantum.gates import rx
from fedjourney.quantum.spins import cluster_state
from fedjourney.quantum.states import apply
from fedjourney.seeds import seed_for, uniforms


def cluster_states(
    source: Source,
    /,
    *,
    qubits: Annotated[int, Ge(3), Le(12)] = 8,
    states_per_qubit: Annotated[int, Ge(2), Le(10_000)] = 40,
    validation: Annotated[float, Ge(0), Lt(1)] = 0.2,
    test: Annotated[float, Ge(0), Lt(1)] = 0.3,
) -> Dataset:
    """Quantum states: cluster states on a ring, one qubit turned by RX(θ); excited (1) where |θ| > π/2, else 0.

    θ is uniform in (-π, π). Input "state" [2^n, 2]; columns "label", and "qubit", the one that was turned.

    Args:
        source: supplies the seed of angles and splits.
        qubits: n.
        states_per_qubit: how many each qubit is turned in.
        validation: share of what is not test.
        test: share of all states.

    Reference: Broughton et al. 2020, TensorFlow Quantum, https://arxiv.org/abs/2003.02989, and its QCNN tutorial.
    """
    count = qubits * states_per_qubit
    angles = (2 * uniforms(seed_for(source.seed, "angles"), count) - 1) * pi
    where = np.repeat(np.arange(qubits), states_per_qubit)
    start = cluster_state(qubits)
    turns = rx(torch.from_numpy(angles))
    states = torch.stack([apply(start, turns[i], [int(where[i])]) for i in range(count)]).float().numpy()
    labels = (np.abs(angles) > pi / 2).astype(np.int64)
    return labelled("cluster_states", {"state": states}, labels, {"qubit": where}, source.seed, validation, test)
