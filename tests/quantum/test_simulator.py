"""The simulator against references computed in another way: numpy's complex matrices, and finite differences."""

from functools import reduce
from math import pi

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from fedjourney.quantum import gates, measuring, spins, states

N = 4
TURNS = ("X", "Y", "Z", "XX", "YY", "ZZ", "ZX")


def random_states(count: int, seed: int = 0) -> torch.Tensor:
    chance = np.random.default_rng(seed)
    found = chance.normal(size=(count, 2**N, 2))
    return torch.from_numpy(found / np.sqrt((found**2).sum((1, 2), keepdims=True)))


def as_complex(state: torch.Tensor) -> np.ndarray:
    return state[..., 0].numpy() + 1j * state[..., 1].numpy()


def embedded(matrix: np.ndarray, wires: tuple[int, ...]) -> np.ndarray:
    """Return the gate on all N qubits by its elements, one by one."""
    whole, width = np.zeros((2**N, 2**N), dtype=complex), len(wires)
    for column in range(2**N):
        bits = [column >> (N - 1 - wire) & 1 for wire in range(N)]
        inner = int("".join(str(bits[wire]) for wire in wires), 2)
        for outcome in range(2**width):
            for place, wire in enumerate(wires):
                bits[wire] = outcome >> (width - 1 - place) & 1
            whole[int("".join(map(str, bits)), 2), column] += matrix[outcome, inner]
    return whole


def pauli(string: str) -> np.ndarray:
    single = {
        "I": np.eye(2),
        "X": np.array([[0, 1], [1, 0]]),
        "Y": np.array([[0, -1j], [1j, 0]]),
        "Z": np.diag([1, -1]),
    }
    return reduce(np.kron, [single[letter] for letter in string])


@pytest.mark.parametrize("string", TURNS)
def test_rotations_are_matrix_exponentials(string: str) -> None:
    from scipy.linalg import expm

    start = random_states(3)
    for wires in ((2,), (0,)) if len(string) == 1 else ((0, 1), (3, 1)):
        ours = states.apply(start, gates.rotation(torch.tensor(0.7, dtype=torch.float64), string), wires)
        whole = embedded(expm(-0.35j * pauli(string)), wires)
        np.testing.assert_allclose(as_complex(ours), as_complex(start) @ whole.T, atol=1e-14)


def test_fixed_gates_and_their_shortcuts() -> None:
    start, pairs = random_states(2), states.ring(N)
    cnot, cz = np.eye(4)[[0, 1, 3, 2]], np.diag([1, 1, 1, -1])
    for ours, one in ((gates.CNOT, cnot), (gates.CZ, cz)):
        np.testing.assert_allclose(
            as_complex(states.apply(start, ours, (3, 1))), as_complex(start) @ embedded(one, (3, 1)).T, atol=1e-15
        )
    by_order, by_signs = start[:, states.cnot_order(N, pairs)], start * states.cz_signs(N, pairs)
    for pair in pairs:
        start = states.apply(start, gates.CNOT, pair)
    torch.testing.assert_close(by_order, start, rtol=0, atol=1e-15)
    start = random_states(2)
    for pair in pairs:
        start = states.apply(start, gates.CZ, pair)
    torch.testing.assert_close(by_signs, start, rtol=0, atol=1e-15)


def test_a_gate_on_each_qubit_is_the_gates_in_turn_one_for_each_example() -> None:
    start = random_states(3)
    turns = gates.u3(torch.from_numpy(np.random.default_rng(1).normal(size=(3, N, 3))))
    together = states.apply_each(start, turns)
    for wire in range(N):
        start = states.apply(start, turns[:, wire], [wire])
    torch.testing.assert_close(together, start, rtol=0, atol=1e-14)
    torch.testing.assert_close(together.square().sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_a_controlled_gate_acts_where_the_control_is_one() -> None:
    gate = gates.u3(torch.tensor([0.3, -1.1, 2.0], dtype=torch.float64))
    complex_gate = gate[0::2, 0::2].numpy() + 1j * gate[1::2, 0::2].numpy()
    whole = np.eye(4, dtype=complex)
    whole[2:, 2:] = complex_gate
    start = random_states(2)
    ours = states.apply(start, gates.controlled(gate), (2, 0))
    np.testing.assert_allclose(as_complex(ours), as_complex(start) @ embedded(whole, (2, 0)).T, atol=1e-14)


def test_expectations_and_distributions() -> None:
    start = random_states(3)
    for string, wires in (("X", (1,)), ("ZY", (3, 0)), ("ZXZ", (0, 1, 2))):
        whole, vectors = embedded(pauli(string), wires), as_complex(start)
        expected = np.einsum("bi,ij,bj->b", vectors.conj(), whole, vectors).real
        np.testing.assert_allclose(measuring.expectation(start, string, wires), expected, atol=1e-14)
    whole_distribution = measuring.distribution(start)
    by_hand = whole_distribution.view(3, 2, 2, 2, 2).sum((2, 4)).flatten(1)
    torch.testing.assert_close(measuring.distribution(start, [0, 2]), by_hand)
    signs = states.bit_signs(N, [[1], [0, 3]])
    both = torch.stack([measuring.expectation(start, "Z", [1]), measuring.expectation(start, "ZZ", [0, 3])], 1)
    torch.testing.assert_close(whole_distribution @ signs, both)


def test_amplitudes_are_normalised_and_nothing_is_the_zero_state() -> None:
    values = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    found = states.amplitudes(values, 2)
    assert found[0, :, 0].tolist() == pytest.approx([0.6, 0.8, 0, 0])
    assert torch.equal(found[1], states.zero_state(2, values))
    assert torch.isfinite(grad(lambda v: states.amplitudes(v, 2).sum())(values)).all()


def circuit(angles: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Two rotations that share nothing, a controlled one (angle 2), another rotation."""
    state = states.apply(state, gates.rx(angles[..., 0]), [0])
    state = states.apply(state, gates.rotation(angles[..., 1], "ZX"), (1, 2))
    state = states.apply(state, gates.controlled(gates.ry(angles[..., 2])), (0, 3))
    state = states.apply(state, gates.H.to(state), [0])  # sees the phase between control 0 and 1
    return measuring.distribution(states.apply(state, gates.rx(angles[..., 3]), [3]), [0, 3])


def score(theta: torch.Tensor, state: torch.Tensor, shift: bool, four: tuple[int, ...] = (2,)) -> torch.Tensor:
    angles = torch.cat([theta, 0.5 - theta[:1]])  # the first parameter turns two gates
    found = measuring.measured(circuit, angles, state, shift=shift, four_terms=four)
    return (found * torch.arange(4.0, dtype=found.dtype)).sum().square()


def test_shifted_runs_give_the_gradient() -> None:
    theta, state = torch.tensor([0.4, -1.3, 2.2], dtype=torch.float64), random_states(2)
    exact, shifted = grad(score)(theta, state, False), grad(score)(theta, state, True)
    torch.testing.assert_close(shifted, exact, rtol=0, atol=1e-12)
    # two terms are not enough for a controlled rotation, and the other angles do not mind
    wrong = grad(score)(theta, state, True, ())
    assert abs(float(wrong[2] - exact[2])) > 1e-3
    torch.testing.assert_close(wrong[:2], exact[:2], rtol=0, atol=1e-12)
    slopes = [
        (score(theta + 1e-6 * u, state, False) - score(theta - 1e-6 * u, state, False)) / 2e-6
        for u in torch.eye(3).double()
    ]
    torch.testing.assert_close(torch.stack(slopes), exact, rtol=1e-7, atol=1e-8)


def test_shifted_runs_work_in_lanes() -> None:
    thetas = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 3)))
    lanes = torch.stack([random_states(2, seed) for seed in range(3)])
    together = vmap(grad(score), in_dims=(0, 0, None))(thetas, lanes, True)
    alone = torch.stack([grad(score)(theta, state, True) for theta, state in zip(thetas, lanes, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_shots_have_the_spread_of_a_multinomial() -> None:
    p, shots, count = torch.tensor([0.1, 0.0, 0.6, 0.3]), 50, 4000
    keys = measuring.example_keys(torch.zeros(count, 1), torch.tensor(17))
    found = measuring.frequencies(p.expand(count, 4), shots, keys)
    torch.testing.assert_close(found.sum(1), torch.ones(count))
    torch.testing.assert_close((found * shots).round(), found * shots, rtol=0, atol=1e-4)
    deviation = torch.sqrt(p * (1 - p) / shots)
    assert ((found.mean(0) - p).abs() <= 5 * deviation / count**0.5 + 1e-7).all()
    torch.testing.assert_close(found.std(0), deviation, rtol=0.06, atol=1e-7)


def test_keys_of_neighbouring_steps_and_examples_give_unlike_shots() -> None:
    p = torch.full((5, 8), 1 / 8)
    draws = []
    for step in range(4):  # as `minibatches` numbers its steps
        keys = measuring.example_keys(torch.zeros(5, 1), torch.tensor(3) + torch.tensor(step) * -7046029254386353131)
        draws += measuring.uniform(keys[:, None], 64).unbind()
    numbers = torch.stack(draws)
    assert len(torch.unique(numbers)) > 0.99 * numbers.numel()
    assert float(torch.corrcoef(numbers).fill_diagonal_(0).abs().max()) < 0.55  # 64 draws: 4.4 deviations
    assert not torch.equal(measuring.frequencies(p, 9, keys)[0], measuring.frequencies(p, 9, keys)[1])


def test_shots_of_an_example_do_not_depend_on_its_block() -> None:
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(6, 2, 3)).astype(np.float32))
    whole = measuring.example_keys(x, None)
    assert torch.equal(whole, torch.cat([measuring.example_keys(part, None) for part in x.split([1, 5])]))
    assert len(whole.unique()) == 6


def test_shot_gradients_scatter_around_the_exact_one() -> None:
    state = states.zero_state(N, torch.zeros((), dtype=torch.float64), [4000])
    keys = measuring.example_keys(torch.zeros(4000, 1), torch.tensor(5))

    def mean_of(angles: torch.Tensor, shots: int) -> torch.Tensor:
        found = measuring.measured(circuit, angles, state, shots=shots, keys=keys, shift=bool(shots), four_terms=(2,))
        return found[:, 3].mean()

    angles = torch.tensor([1.0, 0.2, 0.9, 0.3], dtype=torch.float64)
    exact, noisy = grad(mean_of)(angles, 0), grad(mean_of)(angles, 5)
    assert 0 < float((exact - noisy).abs().max()) < 5 * 0.5 / (5 * 4000) ** 0.5


def test_the_cluster_state_is_stabilised_and_an_excitation_seen_by_two_neighbours() -> None:
    state = spins.cluster_state(5)
    for wire in range(5):
        near = ((wire - 1) % 5, wire, (wire + 1) % 5)
        assert float(measuring.expectation(state, "ZXZ", near)) == pytest.approx(1)
    turned = states.apply(state, gates.rx(torch.tensor(2 * pi / 5, dtype=torch.float64)), [2])
    seen = [float(measuring.expectation(turned, "ZXZ", ((w - 1) % 5, w, (w + 1) % 5))) for w in range(5)]
    assert seen == pytest.approx([1, np.cos(2 * pi / 5), 1, np.cos(2 * pi / 5), 1])


@pytest.mark.parametrize(("frustration", "periodic"), [(0.0, True), (0.4, True), (0.8, False)])
def test_ground_states_are_those_of_the_whole_matrix(frustration: float, periodic: bool) -> None:
    n, field = 4, 0.7
    whole = np.zeros((16, 16))
    for site in range(n):
        for step, factor in ((1, -1.0), (2, frustration)):
            if periodic or site + step < n:
                letters = ["I"] * n
                letters[site], letters[(site + step) % n] = "Z", "Z"
                whole += factor * pauli("".join(letters)).real
        whole -= field * pauli("".join("X" if place == site else "I" for place in range(n))).real
    chain = spins.ising_chain(n, field, frustration=frustration, periodic=periodic)
    np.testing.assert_allclose(chain.toarray(), whole, atol=1e-14)
    energies, vectors = np.linalg.eigh(whole)
    found = spins.ground_state(chain, periodic=periodic)
    assert found @ whole @ found == pytest.approx(energies[0], abs=1e-10)
    assert abs(found @ vectors[:, 0]) == pytest.approx(1, abs=1e-10)


def test_the_free_fermions_energy() -> None:
    # Pfeuty 1970: on a ring, even sector, E = -Σ_k √(1 + h² - 2h cos k), k = (2m+1)π/n
    n, h = 8, 0.9
    k = (2 * np.arange(n) + 1) * pi / n
    chain = spins.ising_chain(n, h)
    found = spins.ground_state(chain)
    assert found @ (chain @ found) == pytest.approx(-np.sqrt(1 + h * h - 2 * h * np.cos(k)).sum(), abs=1e-9)


def test_nearly_degenerate_ground_states_come_out_symmetric() -> None:
    for frustration in (0.1, 0.9):
        found = spins.ground_state(spins.ising_chain(8, 0.02, frustration=frustration))
        np.testing.assert_allclose(found, found[::-1], atol=1e-12)
        assert (found > -1e-12).all()  # Perron and Frobenius
