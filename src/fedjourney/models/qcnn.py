"""The quantum convolutional network."""

from math import pi
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from fedjourney.errors import ConfigError
from fedjourney.quantum.gates import CNOT, rotation
from fedjourney.quantum.measuring import distribution, example_keys, measured
from fedjourney.quantum.states import apply
from fedjourney.tasks import Signature

_EACH = ["XI", "YI", "ZI", "IX", "IY", "IZ"]
_CONVOLUTION = [*_EACH, "ZZ", "YY", "XX", *_EACH]


def qcnn(
    signature: Signature,
    /,
    *,
    shots: Annotated[int, Ge(0), Le(1_000_000)] = 0,
    gradient: Literal["exact", "parameter_shift"] = "exact",
    sharpness: Annotated[float, Gt(0)] = 4.0,
) -> nn.Module:
    """Quantum convolutional network: a state in, layers of shared two-qubit gates and pooling, few qubits read out.

    A layer: one two-qubit gate of 15 angles on all neighbours of a ring, then half of the qubits are pooled into the
    other half by a gate of 6 angles; until the bits left can name the classes. 63 angles for 8 qubits and 2 classes.
    A class's logit is a learned scale times the probability of its bit string.

    Args:
        signature: one input of states [2^n, 2], n a power of two.
        shots: runs of the circuit for each example, 0 = exact.
        gradient: of the angles; "parameter_shift" from shifted runs, each of `shots`, as on a device.
        sharpness: the scale at the start.

    References: Cong et al. 2019, Quantum convolutional neural networks, https://arxiv.org/abs/1810.03787; the circuit
    is that of TensorFlow Quantum's tutorial, https://www.tensorflow.org/quantum/tutorials/qcnn.
    """
    shape = next(iter(signature.inputs.values()))
    qubits = shape[0].bit_length() - 1 if len(shape) == 2 and shape[1] == 2 else 0
    if qubits < 2 or shape[0] != 2**qubits or qubits & (qubits - 1):
        raise ConfigError(
            f"[model] qcnn expects states [2^n, 2] of n = 2, 4, 8, 16 qubits, got examples of shape {list(shape)}"
            + (
                f", {qubits} qubits. Set [data] qubits."
                if qubits and shape[0] == 2**qubits
                else ". Take [data] cluster_states or annni."
            )
        )
    if signature.classes > 2 ** (qubits // 2):
        raise ConfigError(
            f"[model] qcnn can name at most {2 ** (qubits // 2)} classes from {qubits} qubits, got {signature.classes}."
        )
    return _QCNN(qubits, signature.classes, shots, gradient == "parameter_shift", sharpness)


class _QCNN(nn.Module):
    def __init__(self, qubits: int, classes: int, shots: int, shift: bool, sharpness: float) -> None:
        super().__init__()
        self.takes_key = shots > 0
        self.classes, self.shots, self.shift = classes, shots, shift
        wires, self.layers = list(range(qubits)), []
        needed = max(1, (classes - 1).bit_length())
        while len(wires) > needed and len(wires) // 2 >= needed:
            near = [
                *zip(wires[0::2], wires[1::2], strict=True),
                *zip(wires[1::2], wires[2::2] + wires[:1], strict=True),
            ]
            half = len(wires) // 2
            self.layers.append((near, list(zip(wires[:half], wires[half:], strict=True))))
            wires = wires[half:]
        self.read = wires
        self.convolutions = nn.Parameter(torch.empty(len(self.layers), 15).uniform_(-pi, pi))
        self.poolings = nn.Parameter(torch.empty(len(self.layers), 6).uniform_(-pi, pi))
        self.scale = nn.Parameter(torch.tensor(sharpness))

    def forward(self, state: Tensor, key: Tensor | None = None) -> Tensor:
        """Map states [B, 2^n, 2] to logits [B, classes]; `key` seeds the shots of a training step."""
        keys = example_keys(state, key) if self.shots else None
        found = measured(self._run, self._occurrences(), state, shots=self.shots, keys=keys, shift=self.shift)
        return self.scale * found[:, : self.classes]

    def _occurrences(self) -> Tensor:
        """Return the angle of every rotation in the circuit, so that shared ones stand there once for each use."""
        parts = []
        for layer, (near, pools) in enumerate(self.layers):
            parts.append(self.convolutions[layer].expand(len(near), 15).flatten())
            back = torch.cat([self.poolings[layer], -self.poolings[layer, :3].flip(0)])
            parts.append(back.expand(len(pools), 9).flatten())
        return torch.cat(parts)

    def _run(self, angles: Tensor, state: Tensor) -> Tensor:
        """Return the distribution of the qubits that are left."""
        start = 0
        for near, pools in self.layers:
            units = _product(angles[start : start + 15 * len(near)].unflatten(0, (-1, 15)), _CONVOLUTION)
            start += 15 * len(near)
            for place, pair in enumerate(near):
                state = apply(state, units[place], pair)
            merges = _pooling(angles[start : start + 9 * len(pools)].unflatten(0, (-1, 9)))
            start += 9 * len(pools)
            for place, pair in enumerate(pools):
                state = apply(state, merges[place], pair)
        return distribution(state, self.read)


def _product(angles: Tensor, paulis: list[str], start: Tensor | None = None) -> Tensor:
    """Return rotations [pairs, 8, 8] by angles [pairs, k], the first one acting first, after `start`."""
    total = start
    for place, pauli in enumerate(paulis):
        turn = rotation(angles[:, place], pauli)
        total = turn if total is None else turn @ total
    assert total is not None
    return total


def _pooling(angles: Tensor) -> Tensor:
    """Return gates [pairs, 8, 8] on (source, sink) from angles [pairs, 9].

    A basis of the sink, a basis of the source, a CNOT onto the sink, the sink's basis undone.
    """
    before = _product(angles[:, :6], ["IX", "IY", "IZ", "XI", "YI", "ZI"])
    return _product(angles[:, 6:], ["IZ", "IY", "IX"], CNOT.to(angles) @ before)
