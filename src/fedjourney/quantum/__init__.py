"""A small batched state-vector simulator in torch: differentiable, in lanes, in populations, with shots.

A state of n qubits is a real tensor [..., 2^n, 2], real and imaginary parts last; qubit 0 is the most significant
bit of the index, as in Cirq and PennyLane. A gate on k qubits is a real matrix [..., 2·2^k, 2·2^k] that acts on
(bits, part): complex A + iB becomes A ⊗ 1 + B ⊗ [[0, -1], [1, 0]]. Leading dimensions broadcast, so that a gate may
be one for all examples or one for each. Real numbers alone mean that every operation has a gradient, a lane and a
compiled form.

- `gates`: matrices, `rotation` and its relatives; `states`: apply them, encode data; `measuring`: distributions,
  expectations, shots, parameter-shift gradients; `spins`: ground states of chains; `shadows`: randomised measurements;
  `layers`: PennyLane's.
"""
