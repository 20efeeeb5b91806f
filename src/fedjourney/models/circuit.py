"""A variational quantum circuit on features."""

from itertools import combinations
from math import pi
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from fedjourney.errors import ConfigError
from fedjourney.quantum.gates import controlled, rx, ry, u3
from fedjourney.quantum.measuring import distribution, example_keys, measured
from fedjourney.quantum.states import (
    amplitudes,
    apply,
    apply_each,
    bit_signs,
    cnot_order,
    cz_signs,
    ring,
    zero_state,
)
from fedjourney.tasks import Signature

Entangler = Literal["cnot", "cz", "controlled_rx"]


def circuit(
    signature: Signature,
    /,
    *,
    qubits: Annotated[int, Ge(1), Le(14)] = 6,
    layers: Annotated[int, Ge(1), Le(1_000)] = 6,
    encoding: Literal["amplitude", "angle"] = "amplitude",
    entangler: Entangler = "cnot",
    readout: Literal["z", "zz"] = "zz",
    spread: Annotated[float, Gt(0)] = pi,
    pool: Annotated[int, Ge(1), Le(1_024)] = 1,
    shots: Annotated[int, Ge(0), Le(1_000_000)] = 0,
    gradient: Literal["exact", "parameter_shift"] = "exact",
) -> nn.Module:
    """Variational quantum circuit, simulated: features in as amplitudes or angles, Pauli Z read out, a linear head.

    A layer is a U3 on every qubit, then entanglers around the ring.

    Args:
        signature: one input of any shape, flattened.
        qubits: n.
        layers: how many.
        encoding: "amplitude": up to 2^n features are the amplitudes of the first state. "angle": before each layer
            the next n features x turn the qubits by RY(πx), beginning again when all have been uploaded.
        entangler: CNOT, CZ, or a controlled RX with an angle of its own.
        readout: ⟨Z_i⟩ of every qubit; "zz": and ⟨Z_i Z_j⟩ of every pair, from the same shots.
        spread: angles begin uniform in ± spread; small ones begin near a circuit that does nothing.
        pool: images are averaged over squares of this side first.
        shots: each expectation is estimated from so many runs of the circuit; 0 = exact.
        gradient: of the circuit's angles; "parameter_shift" from shifted runs, each of `shots`, as on a device.

    References: Schuld et al. 2020, Circuit-centric quantum classifiers, https://arxiv.org/abs/1804.00633;
    Pérez-Salinas et al. 2020, Data re-uploading, https://arxiv.org/abs/1907.02085.
    """
    shape = next(iter(signature.inputs.values()))
    if pool > 1:
        if len(shape) != 3 or min(shape[1:]) < pool:
            raise ConfigError(f"[model] pool: expected images of at least {pool}x{pool}, got examples {list(shape)}.")
        shape = (shape[0], shape[1] // pool, shape[2] // pool)
    features = int(torch.Size(shape).numel())
    most = 2**qubits if encoding == "amplitude" else qubits * layers
    if features > most:
        more = "qubits" if encoding == "amplitude" else "qubits or layers"
        raise ConfigError(
            f"[model] {more}: expected room for {features} features, got {most} ({encoding} encoding). "
            f"Raise {more}, or pool images."
        )
    return _Circuit(
        signature.classes, features, qubits, layers, encoding, entangler, readout, spread, pool, shots, gradient
    )


class _Circuit(nn.Module):
    def __init__(
        self,
        classes: int,
        features: int,
        qubits: int,
        layers: int,
        encoding: str,
        entangler: Entangler,
        readout: str,
        spread: float,
        pool: int,
        shots: int,
        gradient: str,
    ) -> None:
        super().__init__()
        self.takes_key = shots > 0
        self.qubits, self.layers, self.entangler, self.pool = qubits, layers, entangler, pool
        self.shots, self.shift, self.blocks = shots, gradient == "parameter_shift", -(-features // qubits)
        self.amplitude, self.pairs = encoding == "amplitude", ring(qubits)
        strings = [[wire] for wire in range(qubits)]
        strings += [list(pair) for pair in combinations(range(qubits), 2)] if readout == "zz" else []
        self.signs = bit_signs(qubits, strings)
        self.order, self.phases = cnot_order(qubits, self.pairs), cz_signs(qubits, self.pairs)
        self.angles = nn.Parameter(torch.empty(layers, qubits, 3).uniform_(-spread, spread))
        if entangler == "controlled_rx":
            self.couplings = nn.Parameter(torch.empty(layers, len(self.pairs)).uniform_(-spread, spread))
        self.head = nn.Linear(len(strings), classes)

    def forward(self, x: Tensor, key: Tensor | None = None) -> Tensor:
        """Map examples [B, …] to logits [B, classes]; `key` seeds the shots of a training step."""
        if self.pool > 1:
            x = nn.functional.avg_pool2d(x, self.pool)
        x = x.flatten(1)
        angles = self.angles.flatten()
        four: range = range(0)
        if self.entangler == "controlled_rx":
            four = range(len(angles), len(angles) + self.couplings.numel())
            angles = torch.cat([angles, self.couplings.flatten()])
        if self.amplitude:
            given = amplitudes(x, self.qubits)
        else:
            padded = nn.functional.pad(x, (0, self.blocks * self.qubits - x.shape[1]))
            given = ry(pi * padded).unflatten(1, (self.blocks, self.qubits))
        keys = example_keys(x, key) if self.shots else None
        found = measured(self._run, angles, given, shots=self.shots, keys=keys, shift=self.shift, four_terms=four)
        return self.head(found @ self.signs.to(found))

    def _run(self, angles: Tensor, given: Tensor) -> Tensor:
        """Return the distribution of all bits, from states or from the gates that upload angles."""
        state = given if self.amplitude else zero_state(self.qubits, given, given.shape[:1])
        single, double = angles[: self.layers * self.qubits * 3], angles[self.layers * self.qubits * 3 :]
        turns = u3(single.view(self.layers, self.qubits, 3))
        couplings = controlled(rx(double)).unflatten(0, (self.layers, -1)) if len(double) else None
        for layer in range(self.layers):
            if not self.amplitude:
                state = apply_each(state, given[:, layer % self.blocks])
            state = apply_each(state, turns[layer])
            if couplings is not None:
                for place, pair in enumerate(self.pairs):
                    state = apply(state, couplings[layer, place], pair)
            elif self.entangler == "cnot":
                state = state[..., self.order.to(state.device), :]
            else:
                state = state * self.phases.to(state)
        return distribution(state)
