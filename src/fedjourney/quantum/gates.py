"""Gates as real matrices."""

from math import pi

import numpy as np
import torch

_PART = np.array([[0.0, -1.0], [1.0, 0.0]])  # multiplication by i of (real, imaginary)
_PAULI = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0 + 0j, -1.0]),
}


def as_real(matrix: np.ndarray) -> torch.Tensor:
    """Return the real form [2d, 2d] (float64) of a complex matrix [d, d]."""
    return torch.from_numpy(np.kron(matrix.real, np.eye(2)) + np.kron(matrix.imag, _PART))


def pauli_matrix(pauli: str) -> np.ndarray:
    """Return the complex matrix of a string such as "X" or "ZZ"."""
    matrix = np.eye(1, dtype=complex)
    for letter in pauli:
        matrix = np.kron(matrix, _PAULI[letter])
    return matrix


_STRINGS = [*"IXYZ", *(a + b for a in "IXYZ" for b in "IXYZ")]
PAULI = {name: as_real(pauli_matrix(name)) for name in _STRINGS}
"""Real forms of all Pauli strings on one and two qubits."""
_TURN = {name: as_real(-1j * pauli_matrix(name)) for name in _STRINGS}

H = as_real(np.array([[1, 1], [1, -1]], dtype=complex) / np.sqrt(2))
CNOT = as_real(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], dtype=complex))
CZ = as_real(np.diag([1, 1, 1, -1]).astype(complex))
_OFF = as_real(np.diag([1, 1, 0, 0]).astype(complex))  # control 0: nothing happens
_ON = torch.from_numpy(np.kron(np.diag([0.0, 1.0]), np.ones((4, 4))))
_U3 = {  # where cos(θ/2), sin(θ/2) and the phases of a U3 stand
    (0, 0): as_real(np.array([[1, 0], [0, 0]], dtype=complex)),
    (0, 1): as_real(np.array([[0, 1], [0, 0]], dtype=complex)),
    (1, 0): as_real(np.array([[0, 0], [1, 0]], dtype=complex)),
    (1, 1): as_real(np.array([[0, 0], [0, 1]], dtype=complex)),
}
_I_U3 = {place: PAULI["I"] @ (as_real(1j * np.eye(2)) @ matrix) for place, matrix in _U3.items()}


def rotation(angle: torch.Tensor, pauli: str) -> torch.Tensor:
    """Return exp(-i angle P / 2) [..., d, d] of a Pauli string: RX, RY, RZ, or RXX, RYY, RZZ.

    >>> rotation(torch.tensor(pi), "X")[0, 3].item()  # RX(π)|1⟩ = -i|0⟩: real part from the imaginary one
    1.0
    """
    cosine, sine = torch.cos(angle / 2)[..., None, None], torch.sin(angle / 2)[..., None, None]
    return cosine * PAULI["I" * len(pauli)].to(angle) + sine * _TURN[pauli].to(angle)


def rx(angle: torch.Tensor) -> torch.Tensor:
    """Return exp(-i angle X / 2) [..., 4, 4]."""
    return rotation(angle, "X")


def ry(angle: torch.Tensor) -> torch.Tensor:
    """Return exp(-i angle Y / 2) [..., 4, 4]."""
    return rotation(angle, "Y")


def rz(angle: torch.Tensor) -> torch.Tensor:
    """Return exp(-i angle Z / 2) [..., 4, 4]."""
    return rotation(angle, "Z")


def u3(angles: torch.Tensor) -> torch.Tensor:
    """Return the general gate on one qubit [..., 4, 4] from (θ, φ, λ) [..., 3].

    [[cos θ/2, -e^{iλ} sin θ/2], [e^{iφ} sin θ/2, e^{i(φ+λ)} cos θ/2]], which is RZ(φ) RY(θ) RZ(λ) up to a phase.
    """
    theta, phi, lam = (part[..., None, None] for part in angles.unbind(-1))
    cosine, sine = torch.cos(theta / 2), torch.sin(theta / 2)
    total = cosine * _U3[0, 0].to(angles)
    for place, size, phase in (((0, 1), -sine, lam), ((1, 0), sine, phi), ((1, 1), cosine, phi + lam)):
        total = total + size * (torch.cos(phase) * _U3[place].to(angles) + torch.sin(phase) * _I_U3[place].to(angles))
    return total


def controlled(gate: torch.Tensor) -> torch.Tensor:
    """Return the gate [..., 8, 8] on (control, target) that does `gate` [..., 4, 4] where the control is 1."""
    blocks = gate.repeat(*[1] * (gate.dim() - 2), 2, 2)
    return _OFF.to(gate) + _ON.to(gate) * blocks


def half_turns(exponent: torch.Tensor) -> torch.Tensor:
    """Return the angle of Cirq's U**exponent, which counts half-turns."""
    return exponent * pi
