"""Updates, strategies, tasks and noise against references computed in another way."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import fedjourney
from fedjourney import config, seeds
from fedjourney.batching import gradient, minibatches
from fedjourney.noise import rademacher
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.strategies import Accumulator, WeightedMean
from fedjourney.strategies.open_es import centred_ranks
from fedjourney.updates import Client


@pytest.fixture
def double(small: str) -> Plan:
    text = small + '[numerics]\ndtype = "float64"\n'
    return plan(config.parse(text + '[update]\nname = "sgd"\nmomentum = 0.9\nweight_decay = 0.01\nepochs = 2\n'))


def one_client(built: Plan, params: dict[str, torch.Tensor], index: int = 3) -> Client:
    return Client(index, 1, params, {}, {}, built.shard(index)[0], built.task, built.experiment.seed)


def test_sgd_is_torchs_sgd(double: Plan) -> None:
    params = double.task.init(0)
    reply = one_client(double, params).train(double.halves["train"])  # type: ignore[arg-type]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    model = model.double()
    model.load_state_dict(params)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    shard = double.shard(3)[0]
    for number in range(2):
        for batch in minibatches(shard.x, shard.y, 10, seed_for(0, "batches", 1, 3, number)):
            real = batch.mask.bool()
            optimizer.zero_grad()
            logits = model(batch.x["image"][real].double())
            torch.nn.functional.cross_entropy(logits, batch.y["label"][real]).backward()
            optimizer.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(params[name] + reply.tensors[f"update/{name}"], tensor, rtol=0, atol=1e-12)


def test_a_pass_of_some_steps_is_the_beginning_of_a_whole_one(double: Plan) -> None:
    shard = double.shard(3)[0]
    whole, some = (list(minibatches(shard.x, shard.y, 10, 5, most)) for most in (0, 2))
    assert len(some) == 2 < len(whole)
    for mine, theirs in zip(some, whole, strict=False):
        assert torch.equal(mine.x["image"], theirs.x["image"])
        assert torch.equal(mine.key, theirs.key)
    assert len(list(minibatches(shard.x, shard.y, 10, 5, 10_000))) == len(whole)


def test_fedavg_with_one_client_is_local_training(small: str, tmp_path: Path) -> None:
    text = (
        small.replace("clients = 8", "clients = 1")
        .replace("cohort = 4", "cohort = 1")
        .replace("rounds = 4", "rounds = 1")
    )
    text = text.replace('"dirichlet"', '"iid"').replace("alpha = 0.5", "") + '[numerics]\ndtype = "float64"\n'
    result = fedjourney.run(config.parse(text), tmp_path / "run")
    built = plan(config.parse(text))
    params = built.task.init(seed_for(0, "model"))
    reply = one_client(built, params, 0).train(built.halves["train"])  # type: ignore[arg-type]
    for name, tensor in result.parameters.items():
        torch.testing.assert_close(tensor, params[name] + reply.tensors[f"update/{name}"], rtol=0, atol=1e-12)


def test_equal_data_and_one_step_is_central_gradient_descent(tmp_path: Path, small: str) -> None:
    text = small.replace("cohort = 4", "cohort = 1.0\nholdout = 0.0").replace("rounds = 4", "rounds = 1")
    text += '[numerics]\ndtype = "float64"\n[task]\nname = "classification"\nbatch_size = 2000\n'
    result = fedjourney.run(config.parse(text), tmp_path / "run")
    built = plan(config.parse(text))
    params = built.task.init(seed_for(0, "model"))
    train = built.dataset.train
    grads, _ = gradient(built.task.loss, params, next(iter(minibatches(train.x, train.y, len(train), 0))))
    for name, tensor in result.parameters.items():
        torch.testing.assert_close(tensor, params[name] - 0.1 * grads[name], rtol=0, atol=1e-12)


def test_half_precision_halves_the_bytes_and_hardly_moves_the_result(small: str, tmp_path: Path) -> None:
    plain = fedjourney.run(config.parse(small), tmp_path / "a")
    half = fedjourney.run(config.parse(small + '[[transform]]\nname = "half"\n'), tmp_path / "b")
    assert half.rounds[-1]["bytes_up"] < 0.6 * plain.rounds[-1]["bytes_up"]
    for name, tensor in half.parameters.items():
        torch.testing.assert_close(tensor, plain.parameters[name], rtol=0.01, atol=1e-3)


def test_weighted_mean_is_numpys_average_however_it_is_cut() -> None:
    chance = np.random.default_rng(0)
    rows, weights = chance.normal(size=(9, 5)), chance.uniform(1, 9, 9)
    fold = WeightedMean()
    blocks = []
    for block in (range(0, 4), range(4, 9)):
        sums: Accumulator | None = None
        for row in block:
            sums = fold.add(sums, {"x": torch.from_numpy(rows[row])}, float(weights[row]))
        assert sums is not None
        blocks.append(sums)
    mean = fold.finish(fold.merge(*blocks))["x"]
    np.testing.assert_allclose(mean, np.average(rows, axis=0, weights=weights), rtol=1e-12)


def test_centred_ranks_ignore_a_constant_and_put_nan_last() -> None:
    fitness = torch.tensor([5.0, -1.0, float("nan"), 2.0])
    assert centred_ranks(fitness).tolist() == pytest.approx([0.5, -1 / 6, -0.5, 1 / 6])
    assert torch.equal(centred_ranks(fitness), centred_ranks(fitness + 100))


def test_noise_is_the_golden_vector_everywhere() -> None:
    # numpy.random.Philox(key=7).random_raw(2): its lowest bits, 1 -> +1, 0 -> -1
    words = [int(word) for word in np.random.Philox(key=7).random_raw(2)]
    bits = [(words[position // 64] >> (position % 64)) & 1 for position in range(100)]
    noise = rademacher(7, {"a": torch.zeros(3, 5), "b": torch.zeros(85)})
    assert torch.cat([noise["a"].flatten(), noise["b"]]).tolist() == [2.0 * bit - 1 for bit in bits]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 1025])
def test_shuffled_is_a_permutation(count: int) -> None:
    assert sorted(seeds.shuffled(3, count)) == list(range(count))


def test_shuffled_first_places_are_uniform() -> None:
    firsts = np.bincount([next(seeds.shuffled(seed, 10)) for seed in range(4000)], minlength=10)
    assert ((firsts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001


def test_uniform_key_noise_is_uniform() -> None:
    numbers = seeds.uniform(torch.tensor(12345), 100_000)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / 100_000)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_shard_is_cut_once_and_always_trains(small: str, share: float) -> None:
    built = plan(config.parse(small, [f"experiment.holdout={share}"]))
    for index, rows in enumerate(built.shards):
        train, held = built.shard(index)
        assert len(train) + len(held) == len(rows)
        assert len(train) >= 1
        assert len(held) == min(round(share * len(rows)), len(rows) - 1)
        whole = built.dataset.train.take(torch.from_numpy(rows))
        both = torch.cat([train.x["image"], held.x["image"]]).sum(0)
        torch.testing.assert_close(both, whole.x["image"].sum(0))
