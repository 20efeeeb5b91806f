"""The quantum models, data and task: what is computed, and that each runs with and without gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

import fedjourney
from fedjourney import config, plugins
from fedjourney.batching import Batch
from fedjourney.data import Dataset, Examples, Source
from fedjourney.data.annni import phase
from fedjourney.data.heisenberg import edges, neighbourhoods
from fedjourney.errors import ConfigError, DataError
from fedjourney.plan import plan
from fedjourney.quantum import measuring, shadows, spins, states
from fedjourney.tasks import Signature, Task

IMAGE = Signature({"image": (1, 4, 4)}, {"label": ()}, 3)


def model(name: str, signature: Signature = IMAGE, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    found: torch.nn.Module = plugins.build("model", plugins.resolve("model", {"name": name, **options}), signature)
    return found.double()


def data(tmp_path: Path, root: Path | None = None, **table: object) -> Dataset:
    found: Dataset = plugins.build("data", plugins.resolve("data", table), Source(root, tmp_path, 1, tmp_path))
    return found


def test_the_matrix_product_is_the_tensor_contracted_in_snake_order() -> None:
    net = model("mps", Signature({"image": (1, 2, 3)}, {"label": ()}, 3), bond=2)
    x = torch.from_numpy(np.random.default_rng(0).uniform(size=(4, 1, 2, 3)))
    snake = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    expected = []
    for image in x[:, 0]:
        left, right = net.ends[0], net.ends[1]
        for place, (row, column) in enumerate(snake[:3]):
            pixel = image[row, column] * torch.pi / 2
            left = left @ (torch.cos(pixel) * net.cores[place, 0] + torch.sin(pixel) * net.cores[place, 1])
        for place, (row, column) in reversed(list(enumerate(snake))[3:]):
            pixel = image[row, column] * torch.pi / 2
            right = (torch.cos(pixel) * net.cores[place, 0] + torch.sin(pixel) * net.cores[place, 1]) @ right
        f = torch.stack([left @ label @ right for label in net.label])
        expected.append(net.scale * f / f.norm())
    torch.testing.assert_close(net(x), torch.stack(expected), rtol=0, atol=1e-12)
    # the gauge: A_j X, X⁻¹ A_{j+1} is the same function
    before, gauge = net(x), torch.tensor([[2.0, 1.0], [0.5, 3.0]]).double()
    with torch.no_grad():
        net.cores[0] = net.cores[0] @ gauge
        net.cores[1] = gauge.inverse() @ net.cores[1]
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-11)


def test_hundreds_of_pixels_neither_over_nor_underflow() -> None:
    net = model("mps", Signature({"image": (1, 28, 28)}, {"label": ()}, 10), bond=3).float()
    for value in (0.0, 0.5, 1.0):
        logits = net(torch.full((2, 1, 28, 28), value)).detach()
        assert torch.isfinite(logits).all()
        assert float(logits.norm(dim=1)[0]) == pytest.approx(10, rel=1e-3)


@pytest.mark.parametrize("options", [{"encoding": "angle", "layers": 4}, {"entangler": "controlled_rx", "layers": 1}])
def test_a_circuits_shifted_gradient_is_the_exact_one_in_lanes_too(options: dict[str, object]) -> None:
    exact, shifted = (
        model("circuit", qubits=4, **options),
        model("circuit", qubits=4, gradient="parameter_shift", **options),
    )
    params = {name: tensor.detach() for name, tensor in exact.named_parameters()}
    lanes = {name: torch.stack([tensor, tensor + 0.1]) for name, tensor in params.items()}
    x = torch.from_numpy(np.random.default_rng(0).uniform(size=(2, 2, 1, 4, 4)))

    def loss(net: torch.nn.Module):  # type: ignore[no-untyped-def]
        return lambda p, images: torch.func.functional_call(net, p, (images,)).square().sum()

    one, two = vmap(grad(loss(exact)))(lanes, x), vmap(grad(loss(shifted)))(lanes, x)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-11)


SHOTS = """
[experiment]
name = "shots"
rounds = 1
cohort = 3
[data]
name = "digits"
[partition]
name = "iid"
clients = 60
[model]
name = "circuit"
layers = 1
shots = 20
[numerics]
dtype = "float64"
lanes = 3
[engine]
name = "serial"
"""


def task_of(text: str) -> tuple[Task, Examples]:
    built = plan(config.parse(text))
    return built.task, built.dataset.test


def test_shots_follow_the_steps_key_and_add_up_over_any_cut() -> None:
    task, test = task_of(SHOTS)
    params, some = task.init(0), test.cut(slice(0, 50))
    batch = Batch(some.x, some.y, torch.ones(50), torch.tensor(3))
    first, again = task.loss(params, batch), task.loss(params, batch)
    other = task.loss(params, batch._replace(key=torch.tensor(4)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    whole = task.evaluate(params, some)
    cut = [task.evaluate(params, some.cut(rows)) for rows in (slice(0, 13), slice(13, 50))]
    for name, total in whole.items():
        torch.testing.assert_close(cut[0][name] + cut[1][name], total, rtol=1e-12, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_shots_in_lanes_are_the_plain_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    together = fedjourney.run(config.parse(SHOTS), tmp_path / "lanes")
    alone = fedjourney.run(config.parse(SHOTS, ["numerics.lanes=1"]), tmp_path / "plain")
    assert "falling back" not in caplog.text
    for name, tensor in alone.parameters.items():
        torch.testing.assert_close(together.parameters[name], tensor, rtol=0, atol=1e-12)


def test_models_refuse_what_they_cannot_hold() -> None:
    for name, options, words in (
        ("circuit", {"qubits": 3}, "room for 16 features, got 8"),
        ("circuit", {"qubits": 3, "layers": 5, "encoding": "angle"}, "room for 16 features, got 15"),
        ("circuit", {"pool": 5}, "at least 5x5"),
        ("mps", {"pool": 5}, "at least 5x5"),
        ("qcnn", {}, "expects states"),
    ):
        with pytest.raises(ConfigError, match=words):
            model(name, **options)
    with pytest.raises(ConfigError, match=r"of n = 2, 4, 8, 16 qubits, .* 5 qubits\. Set \[data\] qubits"):
        model("qcnn", Signature({"state": (32, 2)}, {"label": ()}, 2))
    with pytest.raises(ConfigError, match="at most 4 classes"):
        model("qcnn", Signature({"state": (16, 2)}, {"label": ()}, 5))


def test_cluster_states_are_excited_as_their_angles_say(tmp_path: Path) -> None:
    dataset = data(tmp_path, name="cluster_states", qubits=5, states_per_qubit=6)
    state, label, qubit = dataset.train.x["state"].double(), dataset.train.y["label"], dataset.columns["qubit"]
    for one, excited, where in zip(state, label.tolist(), qubit.tolist(), strict=True):
        beside = [(where + step) % 5 for step in (0, 1, 2)]  # the stabiliser of the next qubit falls to cos θ
        assert (float(measuring.expectation(one, "ZXZ", beside)) < 0) == excited


def test_the_annni_chains_axes_are_labelled_exactly_and_its_phases_look_so(tmp_path: Path) -> None:
    dataset = data(tmp_path, name="annni", per_axis=10, grid=4)
    assert (dataset.classes, len(dataset.test)) == (3, 16)
    assert set(dataset.columns["segment"]) <= set(range(10))
    assert [phase(0.0, 0.9), phase(0.0, 1.1), phase(0.3, 0.1), phase(0.9, 0.1), phase(0.9, 1.8)] == [0, 1, 0, 2, 1]
    assert phase(0.001, 0.997) == 0  # the line begins at the exact transition
    assert phase(0.001, 1.003) == 1
    state, label = dataset.train.x["state"].double(), dataset.train.y["label"]
    far = measuring.expectation(state, "ZZ", [0, 2])
    assert float(far[label == 2].mean()) < -0.8  # ++--
    assert float(far[label == 0].mean()) > 0.8


def test_shadows_estimate_without_bias() -> None:
    chance = np.random.default_rng(5).normal(size=(8, 2))
    state = torch.from_numpy(chance / np.sqrt((chance**2).sum()))
    axes, outcomes = shadows.randomised(state, 20_000, 3)
    found = shadows.correlators(axes, outcomes)
    for axis, letter in enumerate("XYZ"):
        for i in range(3):
            for j in range(3):
                string, wires = (letter, [i]) if i == j else (letter * 2, [i, j])
                exact = float(measuring.expectation(state, string, wires))
                assert abs(found[axis, i, j] - exact) < 4.5 * 3 / 20_000**0.5
    mean = np.mean(
        [[float(measuring.expectation(state, a * 2, [i, j])) for a in "XYZ"] for i, j in ((0, 1), (1, 2))], 1
    )
    pairs = np.array([[0, 1], [1, 2]])
    np.testing.assert_allclose(shadows.agreements(axes, outcomes, pairs), mean, atol=4.5 / (20_000 / 3) ** 0.5)


def test_random_bonds_change_signs_and_nothing_else(tmp_path: Path) -> None:
    options = {"name": "ising", "qubits": 4, "chains": 10, "shots": 4000}
    equal, mixed = (data(tmp_path, **options, bonds=bonds).train.x["shadow"] for bonds in ("equal", "random"))
    near = np.s_[:, 2, [0, 1, 2], [1, 2, 3]]
    assert float((equal[near].abs() - mixed[near].abs()).abs().max()) < 0.25
    assert float(equal[near].min()) > -0.2
    assert float(mixed[near].min()) < -0.4
    kept = data(tmp_path, **options, bonds="random")  # from the cache
    assert torch.equal(kept.train.x["shadow"], mixed)


def test_the_records_pairs_are_those_of_the_hamiltonian(data_root: Path, tmp_path: Path) -> None:
    with np.load(data_root / "heisenberg" / "heisenberg_4x5.npz") as found:
        pairs = edges(4, 5)
        exact = sum(found[axis].astype(float) for axis in ("xx", "yy", "zz"))[:, pairs[:, 0], pairs[:, 1]]
        # spins of one half: S·S is a quarter of the Pauli products; the stored unit is twice that
        np.testing.assert_allclose((found["couplings"] * exact).sum(1) / 2, found["energy"], rtol=1e-5)
    dataset = data(tmp_path, data_root, name="heisenberg", view="lattice")
    assert dataset.train.x["couplings"].shape == (70, 31)
    edge = data(tmp_path, data_root, name="heisenberg")
    assert torch.equal(edge.train.y["correlation"].view(70, 31), dataset.train.y["correlation"])
    assert torch.equal(edge.train.x["couplings"][:, 12].view(70, 31), dataset.train.x["couplings"])  # its own coupling


def test_a_neighbourhood_is_seen_along_its_pair() -> None:
    couplings = np.random.default_rng(0).uniform(size=(2, len(edges(3, 4))))
    at = {tuple(pair): place for place, pair in enumerate(edges(3, 4).tolist())}
    turned = np.zeros_like(couplings)
    other = edges(4, 3).tolist()
    for place, (a, b) in enumerate(other):  # the transposed lattice
        turned[:, place] = couplings[:, at[(a % 3 * 4 + a // 3, b % 3 * 4 + b // 3)]]
    seen, seen_turned = neighbourhoods(couplings, 3, 4), neighbourhoods(turned, 4, 3)
    for place, (a, b) in enumerate(other):
        np.testing.assert_array_equal(seen_turned[:, place], seen[:, at[(a % 3 * 4 + a // 3, b % 3 * 4 + b // 3)]])


def test_records_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"heisenberg_4x5.npz in one of .* take \[data\] ising"):
        data(tmp_path, name="heisenberg")
    (tmp_path / "heisenberg").mkdir()
    (tmp_path / "heisenberg" / "heisenberg_4x5.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        data(tmp_path, name="heisenberg")


def test_r2_is_scikit_learns() -> None:
    from sklearn.metrics import r2_score

    chance = np.random.default_rng(0)
    x, y = torch.from_numpy(chance.normal(size=(600, 4))), torch.from_numpy(chance.normal(size=(600, 2)))
    signature = Signature({"couplings": (4,)}, {"correlation": (2,)}, 2)
    table = plugins.resolve("task", {"name": "correlations"})
    task: Task = plugins.build("task", table, lambda: torch.nn.Linear(4, 2), signature, torch.float64)
    params, examples = task.init(0), Examples({"couplings": x}, {"correlation": y})
    whole = task.evaluate(params, examples)
    cut = [task.evaluate(params, examples.cut(rows)) for rows in (slice(0, 7), slice(7, 600))]
    metrics = task.summary({name: cut[0][name] + cut[1][name] for name in whole})
    assert metrics == pytest.approx(task.summary(whole), rel=1e-12)
    found = x @ params["weight"].T + params["bias"]
    assert metrics["r2"] == pytest.approx(r2_score(y, found, multioutput="variance_weighted"), rel=1e-10)
    assert metrics["rmse"] == pytest.approx(float((found - y).square().mean().sqrt()), rel=1e-10)
    assert next(iter(metrics)) == "r2"
    with pytest.raises(ConfigError, match="classification"):
        plugins.build("task", table, lambda: torch.nn.Linear(4, 2), IMAGE, torch.float64)


PAIRS = {
    "circuit": '[data]\nname = "digits"\n[model]\nname = "circuit"\nlayers = 1\n',
    "mps": '[data]\nname = "digits"\n[model]\nname = "mps"\nbond = 2\n',
    "ising": '[data]\nname = "ising"\nqubits = 4\nchains = 60\nshots = 5\n[model]\nname = "mlp"\nhidden = [4]\n',
    "cluster": '[data]\nname = "cluster_states"\nqubits = 4\n[model]\nname = "qcnn"\nshots = 5\n',
    "annni": '[data]\nname = "annni"\nqubits = 4\nper_axis = 20\ngrid = 2\n[model]\nname = "qcnn"\n',
}
RUN = '[experiment]\nname = "pair"\nrounds = 2\n[partition]\nname = "iid"\nclients = 20\n[engine]\nname = "serial"\n'


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("strategy", ["", '[strategy]\nname = "open_es"\npopulation = 4\n'])
def test_each_runs_with_and_without_gradients(tmp_path: Path, pair: str, strategy: str) -> None:
    text = RUN + PAIRS[pair] + strategy
    result = fedjourney.run(config.parse(text, ["experiment.cohort=2"]), tmp_path / "run")
    assert not any(row["clients"]["failed"] for row in result.rounds)
    assert any(result.rounds[-1]["test"])
    start = plan(config.parse(text)).task.init(fedjourney.seeds.seed_for(0, "model"))
    assert any(not torch.equal(start[name], tensor) for name, tensor in result.parameters.items())


def test_chains_need_no_periodic_ground_state_to_be_normalised() -> None:
    found = spins.ground_state(spins.ising_chain(5, 1.3, periodic=False, bonds=[1, -1, 1, 1]), periodic=False)
    assert np.linalg.norm(found) == pytest.approx(1)
    flipped = found[np.arange(32) ^ 0b00111]  # the gauge that makes all bonds +1
    expected = spins.ground_state(spins.ising_chain(5, 1.3, periodic=False), periodic=False)
    np.testing.assert_allclose(flipped, expected, atol=1e-9)
    assert states.num_qubits(torch.zeros(32, 2)) == 5


def test_correlations_show_what_is_predicted_over_what_is_exact() -> None:
    signature = Signature({"x": (2,)}, {"correlation": (1,)}, 1)
    task = plugins.build("task", {"name": "correlations"}, lambda: torch.nn.Linear(2, 1), signature, torch.float32)
    exact = torch.linspace(-0.9, 0.1, 50)[:, None]
    right = {"weight": torch.tensor([[1.0, 0.0]]), "bias": torch.zeros(1)}
    shown = task.exhibit(right, Examples({"x": exact.repeat(1, 2)}, {"correlation": exact}))
    (caption, picture), *_ = shown.items()
    assert "at -0.9 and 0.1" in caption
    blue = (picture[..., 0] < 0.5).nonzero()
    assert abs(blue[0] + blue[1] - (len(picture) - 1)).max() <= 1  # on the line
