"""Phases of the ANNNI chain."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._cache import cached
from fedjourney.data._common import labelled
from fedjourney.quantum.spins import as_state, ground_state, ising_chain

FERROMAGNETIC, PARAMAGNETIC, ANTIPHASE = 0, 1, 2
SEGMENTS = 5


def annni(
    source: Source,
    /,
    *,
    qubits: Annotated[int, Ge(4), Le(12)] = 8,
    per_axis: Annotated[int, Ge(4), Le(1_000)] = 60,
    grid: Annotated[int, Ge(2), Le(1_000)] = 14,
    smallest_field: Annotated[float, Gt(0)] = 0.02,
    validation: Annotated[float, Ge(0), Lt(1)] = 0.2,
) -> Dataset:
    """Quantum states: ground states of the ANNNI chain with their phase; trained on its two solvable axes alone.

    H = -Σ Z_i Z_{i+1} + κ Σ Z_i Z_{i+2} - h Σ X_i on a ring, ground states by exact diagonalisation. Train and
    validation: κ = 0 (h in 0 … 2, transition at h = 1) and h → 0 (κ in 0 … 1, transition at κ = 1/2), where the
    phases are known exactly. Test: a grid inside, labelled by the boundaries known for long chains; near them, and
    in the floating phase (counted as paramagnetic), a short chain need not agree.

    Input "state" [2^n, 2]; labels 0 = ferromagnetic, 1 = paramagnetic, 2 = antiphase; column "segment": which fifth
    of which axis a state is from (0-4: field, 5-9: frustration).

    Args:
        source: cache, seed of the validation part.
        qubits: n; a multiple of 4 has room for the antiphase (++--).
        per_axis: training points on each axis.
        grid: test points along κ and along h.
        smallest_field: h on the axis "h → 0", where the ground state is unique only for h > 0.
        validation: share of the axes' points.

    References: Selke 1988, The ANNNI model, https://doi.org/10.1016/0370-1573(88)90140-8, for the boundaries; Monaco
    et al. 2023, Quantum phase detection generalization from marginal quantum neural network models,
    https://arxiv.org/abs/2208.08748, for training on the axes.
    """
    key = ["annni", qubits, per_axis, grid, smallest_field, validation, source.seed]

    def decode() -> Dataset:
        fields, frustrations = 2 * (np.arange(per_axis) + 0.5) / per_axis, (np.arange(per_axis) + 0.5) / per_axis
        axes = [(0.0, h) for h in fields] + [(k, smallest_field) for k in frustrations]
        labels = [FERROMAGNETIC if h < 1 else PARAMAGNETIC for h in fields]
        labels += [FERROMAGNETIC if k < 0.5 else ANTIPHASE for k in frustrations]
        middle = (np.arange(grid) + 0.5) / grid
        inside = [(k, 2 * h) for k in middle for h in middle]
        segment = np.arange(2 * per_axis) * SEGMENTS // per_axis
        own = ({"state": _states(qubits, inside)}, np.array([phase(*point) for point in inside]))
        return labelled(
            "annni",
            {"state": _states(qubits, axes)},
            np.array(labels),
            {"segment": segment},
            source.seed,
            validation,
            own,
        )

    return cached(source.cache_dir, key, decode)


def phase(frustration: float, field: float) -> int:
    """Return the phase of a long chain at (κ, h), by second-order perturbation theory (κ < 1/2) and fits beyond.

    Ising: h = (1-κ)/κ · (1 - √((1-3κ+4κ²)/(1-κ))); commensurate: h = 1.05 √((κ-½)(κ-0.1)).
    """
    k = frustration
    if k == 0:
        return FERROMAGNETIC if field < 1 else PARAMAGNETIC
    if k < 0.5:
        line = (1 - k) / k * (1 - np.sqrt((1 - 3 * k + 4 * k * k) / (1 - k)))
        return FERROMAGNETIC if field < line else PARAMAGNETIC
    return ANTIPHASE if field < 1.05 * np.sqrt((k - 0.5) * (k - 0.1)) else PARAMAGNETIC


def _states(qubits: int, points: list[tuple[float, float]]) -> np.ndarray:
    return as_state(np.stack([ground_state(ising_chain(qubits, h, frustration=k)) for k, h in points]))
