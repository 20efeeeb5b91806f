"""Noise, shaping and estimates against formulas written out."""

import hashlib
import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from evolution_quadratic import Federation
from torch import nn
from torch.func import functional_call, vmap

from fedjourney import config
from fedjourney.batching import Batch
from fedjourney.noise import gaussian, normal_table, rademacher
from fedjourney.plan import plan
from fedjourney.seeds import seed_for
from fedjourney.strategies._evolution import centred_ranks, no_worse_than_finite, shaped, utilities, z_scores
from fedjourney.strategies._low_rank import low_rank
from fedjourney.strategies._replay import numbered
from fedjourney.tensors import Tensors
from fedjourney.updates import Client


def flat(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def test_gaussian_noise_is_the_golden_vector_everywhere() -> None:
    words = [int(word) for word in np.random.Philox(key=7).random_raw(3)]
    pieces = [(words[position // 4] >> (16 * (position % 4))) & 0xFFFF for position in range(10)]
    exact = statistics.NormalDist()
    expected = [float(np.float32(exact.inv_cdf((piece + 0.5) / 65536))) for piece in pieces]
    noise = gaussian(7, {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float64)})
    assert flat(noise).tolist() == expected
    assert noise["b"].dtype == torch.float64


def test_the_normal_table_is_pinned_to_the_bit() -> None:
    table = normal_table()
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()
    assert digest == "1cfbba1e07e34386a57626f82aeb43e6ed54ba70a3ea6b7d964dc66a841074a8"
    assert np.array_equal(table, -table[::-1])
    assert bool((np.diff(table) > 0).all())
    assert float((table.astype(np.float64) ** 2).mean()) == pytest.approx(1, abs=3e-5)


def test_ranks_and_utilities_do_not_see_monotone_transforms() -> None:
    fitness = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for transform in (torch.exp, lambda f: 1e-3 * f - 7, lambda f: f**3):
        assert torch.equal(centred_ranks(transform(fitness)), centred_ranks(fitness))
        assert torch.equal(utilities(transform(fitness)), utilities(fitness))
    assert not torch.equal(z_scores(torch.exp(fitness)), z_scores(fitness))


def test_utilities_are_the_published_formula() -> None:
    fitness = torch.tensor([0.3, -2.0, 5.0, 1.0, 0.1, 0.2])
    raw = [max(0.0, math.log(6 / 2 + 1) - math.log(place)) for place in range(1, 7)]
    ordered = [value / sum(raw) - 1 / 6 for value in raw]
    best_first = sorted(range(6), key=lambda j: -fitness[j])
    found = utilities(fitness).tolist()
    assert [found[j] for j in best_first] == pytest.approx(ordered, abs=1e-15)
    assert sum(found) == pytest.approx(0, abs=1e-15)


def test_a_wild_candidate_counts_as_just_below_the_worst_finite_one() -> None:
    fitness = torch.tensor([1.0, math.nan, -3.0, -math.inf, math.inf])
    found = no_worse_than_finite(fitness)
    assert found.tolist() == pytest.approx([1.0, -3.0, -3.0, -3.0, -3.0], rel=2e-5)
    assert found.argsort(descending=True, stable=True)[:2].tolist() == [0, 2]
    assert found[[1, 3, 4]].unique().numel() == 1
    lonely = no_worse_than_finite(torch.tensor([math.nan, -2.3, math.nan]))
    assert lonely.argmax() == 1  # the only sound one is the best, however often the others stand beside it
    assert torch.isnan(no_worse_than_finite(torch.full((2,), math.nan))).all()
    assert shaped(torch.tensor([1.0, math.nan, 2.0]), "ranks").tolist() == [0.0, -0.5, 0.5]


class Given:
    """A task whose fitness is a function of the flat parameters."""

    signature: Any = None

    def __init__(self, function: Any) -> None:
        self.function = function

    def fitness(self, population: Tensors, shard: Any, seed: int) -> torch.Tensor:
        return self.function(torch.cat([tensor.flatten(1) for tensor in population.values()], 1))


def one_step(federation: Federation, function: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (parameters before [P], the move [P]) of one round whose only client scores `function`."""
    federation.task, federation.clients = Given(function), 1  # type: ignore[assignment]
    before = flat(federation.params)
    return before, flat(federation.play(1).params) - before


RAW = {"utility": "raw", "optimizer": "sgd", "learning_rate": 1.0}


def test_the_antithetic_estimate_is_exact_on_linear_functions() -> None:
    slope = torch.arange(8, dtype=torch.float64) - 3
    for sigma in (0.01, 2.0):
        federation = Federation("open_es", {"population": 12, "sigma": sigma, **RAW})
        before, move = one_step(federation, lambda p: p @ slope)
        noises = [rademacher(seed_for(3, "directions", 1, pair), {"": before})[""] for pair in range(6)]
        expected = sum((z @ slope) * z for z in noises) / 6
        torch.testing.assert_close(move, expected, rtol=0, atol=1e-11)


def test_the_estimate_is_unbiased_for_the_smoothed_gradient() -> None:
    # f = Σ x³ smoothed by σ z, z normal: gradient 3 (x² + σ²)
    sigma, pairs = 0.7, 2000
    options = {"population": 2 * pairs, "sigma": sigma, "noise": "gaussian", **RAW}
    before, move = one_step(Federation("open_es", options), lambda p: (p**3).sum(1))
    noises = torch.stack([gaussian(seed_for(3, "directions", 1, pair), {"": before})[""] for pair in range(pairs)])
    sides = ((before + sigma * noises) ** 3).sum(1) - ((before - sigma * noises) ** 3).sum(1)
    each = (sides / (2 * sigma)).unsqueeze(1) * noises
    torch.testing.assert_close(move, each.mean(0), rtol=0, atol=1e-9)
    error = each.std(0) / pairs**0.5
    assert bool(((move - 3 * (before**2 + sigma**2)).abs() < 5 * error).all())
    assert bool((3 * sigma**2 > 5 * error).any())  # so the smoothing itself is seen


@pytest.mark.parametrize("granularity", ["layer", "parameter"])
def test_snes_is_the_written_out_algorithm(granularity: str) -> None:
    target, layers = np.linspace(-1, 1, 8), [6, 2]
    options = {"population": 10, "sigma": 0.4, "granularity": granularity}
    federation = Federation("snes", options)
    federation.task = Given(lambda p: -((p - torch.from_numpy(target)) ** 2).sum(1))  # type: ignore[assignment]
    mu = flat(federation.params).numpy().copy()
    sigma = np.full(8, 0.4)
    raw = np.maximum(0, np.log(6) - np.log(np.arange(1, 11)))
    ordered = raw / raw.sum() - 0.1
    for round in range(1, 4):
        z = np.stack([gaussian(seed_for(3, "directions", round, j), {"": torch.zeros(8)})[""] for j in range(5)])
        z = np.concatenate([z, -z]).astype(np.float64)
        fitness = -(((mu + sigma * z) - target) ** 2).sum(1)
        u = np.empty(10)
        u[np.argsort(-fitness)] = ordered
        spread = (u[:, None] * (z**2 - 1)).sum(0)
        levels = 8
        if granularity == "layer":
            spread, levels = np.repeat([spread[:6].mean(), spread[6:].mean()], layers), 2
        mu = mu + sigma * (u[:, None] * z).sum(0)
        sigma = sigma * np.exp(0.5 * (3 + np.log(levels)) / (5 * np.sqrt(levels)) * spread)
    federation.play(3)
    # the learning rate of σ is made in float32, hence the tolerance
    np.testing.assert_allclose(flat(federation.params).numpy(), mu, rtol=0, atol=1e-6)
    found = federation.rounds.state["extra/sigma"].numpy()
    np.testing.assert_allclose(found if granularity == "parameter" else np.repeat(found, layers), sigma, atol=1e-6)


def test_guided_noise_has_the_published_covariance() -> None:
    # on a linear function the estimate's expectation is (α/P I + (1 - α)/k U Uᵀ) ∇f
    slope, pairs = torch.arange(1, 9, dtype=torch.float64), 1500
    options = {"population": 2 * pairs, "share": 0.25, "subspace": 1, "optimizer": "sgd", "learning_rate": 1.0}
    federation = Federation("guided_es", options)
    _, first = one_step(federation, lambda p: p @ slope)
    before = flat(federation.params)
    second = flat(federation.play(1).params) - before
    u = first / first.norm()
    expected = 0.25 / 8 * slope + 0.75 * (u @ slope) * u
    assert float((first / first.norm()) @ (slope / slope.norm())) > 0.95  # no subspace yet: α = 1
    error = 2 * slope.norm() / pairs**0.5  # each ⟨ε, s⟩ ε / σ² has trace-one covariance: far below this
    assert float((second - expected).norm()) < 5 * float(error) / 8**0.5
    assert float((second - slope / 8).norm()) > 5 * float(error) / 8**0.5


@pytest.mark.parametrize("blocks", [1, 3])
def test_evofed_is_a_sketch(blocks: int) -> None:
    common = {"optimizer": "sgd", "noise": "rademacher"}
    evofed = Federation("evofed", {"population": 12, "blocks": blocks, "learning_rate": 0.5, **common})
    before, update = flat(evofed.params), torch.zeros(8, dtype=torch.float64)
    sizes = [len(shard) for shard in evofed.shards]
    for index, size in enumerate(sizes):
        ask = evofed.rounds.ask(1, evofed.params, [index])
        client = Client(index, 1, evofed.params, ask.rows[0], {}, evofed.shards[index], evofed.task, 3)  # type: ignore[arg-type, index]
        update += size / sum(sizes) * flat(client.train(evofed.rounds.update).tensors)  # type: ignore[attr-defined]
    noises = [rademacher(seed_for(3, "directions", 1, pair), {"": before})[""] for pair in range(6)]
    block = torch.arange(8) * blocks // 8
    expected = torch.zeros(8, dtype=torch.float64)
    for z in noises:  # (1 / n) Σ ⟨z, Δ⟩ z, block by block: the rate of 0.5 undoes the factor 2
        for number in range(blocks):
            part = block == number
            expected[part] += (z[part] @ update[part]) * z[part] / 6
    torch.testing.assert_close(flat(evofed.play(1).params) - before, expected, rtol=0, atol=1e-12)
    if blocks == 1:
        sketch = Federation("sketch", {"directions": 6, "learning_rate": 1.0, **common}).play(1)
        torch.testing.assert_close(flat(sketch.params), flat(evofed.params), rtol=0, atol=1e-12)


def test_the_sketch_has_the_published_mean_and_variance() -> None:
    options, moves = {"directions": 4, "optimizer": "sgd", "learning_rate": 1.0}, []
    for seed in range(200):
        federation = Federation("sketch", options, seed=seed, clients=1)
        federation.params = {name: torch.ones_like(tensor) for name, tensor in federation.params.items()}
        before = flat(federation.params)
        moves.append(flat(federation.play(1).params) - before)
    plain = Federation("fedavg", clients=1)
    plain.params = {name: torch.ones_like(tensor) for name, tensor in plain.params.items()}
    update = flat(plain.play(1).params) - 1
    errors = torch.stack(moves) - update
    mean_error = errors.std(0) / 200**0.5
    assert bool((errors.mean(0).abs() < 5 * mean_error).all())
    squared = (errors**2).sum(1)
    expected = 7 / 4 * float(update @ update)  # (P - 1) / n ‖Δ‖²
    assert abs(float(squared.mean()) - expected) < 5 * float(squared.std()) / 200**0.5


def local_walk(federation: Federation, index: int, steps: list[list[torch.Tensor]], rate: float) -> torch.Tensor:
    """Return where plain zeroth-order descent along given directions takes one client [P]."""
    shard, p = federation.shards[index], flat(federation.params)
    names = list(federation.params)

    def loss(point: torch.Tensor) -> torch.Tensor:
        cut = dict(zip(names, point.split([t.numel() for t in federation.params.values()]), strict=True))
        params = {n: t.reshape(federation.params[n].shape) for n, t in cut.items()}
        return federation.task.loss(params, Batch(shard.x, {}, torch.ones(len(shard)), torch.tensor(0)))

    for directions in steps:
        move = sum((loss(p + 1e-3 * z) - loss(p - 1e-3 * z)) / 2e-3 * z for z in directions) / len(directions)
        p = p - rate * move  # type: ignore[operator]
    return p


def test_decomfl_is_the_mean_of_the_clients_own_models() -> None:
    federation = Federation("decomfl", {"perturbations": 3, "local_steps": 4, "learning_rate": 0.05})
    seeds = [seed_for(3, "decomfl", 1, k) for k in range(4)]
    like = {"": flat(federation.params)}
    steps = [[rademacher(seed_for(seed, "perturbation", q), like)[""] for q in range(3)] for seed in seeds]
    sizes = [len(shard) for shard in federation.shards]
    mean = sum(size / sum(sizes) * local_walk(federation, index, steps, 0.05) for index, size in enumerate(sizes))
    torch.testing.assert_close(flat(federation.play(1).params), mean, rtol=0, atol=1e-9)


def test_fedkseed_is_the_mean_of_the_clients_own_models() -> None:
    options = {"seeds": 16, "steps": 5, "learning_rate": 0.05, "epsilon": 1e-3}
    federation = Federation("fedkseed", options)
    like, sizes = {"": flat(federation.params)}, [len(shard) for shard in federation.shards]
    mean = torch.zeros(8, dtype=torch.float64)
    for index, size in enumerate(sizes):
        words = np.random.Philox(key=seed_for(3, "fedkseed", 1, index)).random_raw(5)
        drawn = [int(word) * 16 >> 64 for word in words]
        steps = [[rademacher(seed_for(3, "candidate seed", j), like)[""]] for j in drawn]
        mean += size / sum(sizes) * local_walk(federation, index, steps, 0.05)
    torch.testing.assert_close(flat(federation.play(1).params), mean, rtol=0, atol=1e-9)


def test_slopes_are_clipped_so_that_no_client_moves_the_model_far() -> None:
    options = {"perturbations": 3, "learning_rate": 1.0, "clip": 0.01}
    _, move = one_step(Federation("decomfl", options), lambda p: 1e6 * p.sum(1))
    assert 0 < float(move.abs().max()) <= 0.01 + 1e-12


def test_eggroll_is_the_written_out_step() -> None:
    target = torch.linspace(-1, 1, 8, dtype=torch.float64)
    options = {"population": 6, "sigma": 0.3, "rank": 2, "optimizer": "sgd", "learning_rate": 1.0}
    before, move = one_step(Federation("eggroll", options), lambda p: -((p - target) ** 2).sum(1))
    directions = []
    for pair in range(3):
        like = {"left": torch.zeros(2, 2), "right": torch.zeros(3, 2), "b": torch.zeros(2)}
        noise = {n: t.double() for n, t in gaussian(seed_for(3, "directions", 1, pair), like).items()}
        matrix = noise["left"] @ noise["right"].T / 2**0.5
        directions.append(torch.cat([matrix.flatten(), noise["b"]]))
    signed = torch.stack([*directions, *(-one for one in directions)])
    fitness = -((before + 0.3 * signed - target) ** 2).sum(1)
    scores = (fitness - fitness.mean()) / (fitness.var(unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(move, 6**0.5 * (scores.unsqueeze(1) * 0.3 * signed).mean(0), rtol=0, atol=1e-12)


def test_low_rank_weights_act_as_their_sum_in_lanes() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(4, 5, bias=False)
    ).double()
    params, x = {n: p.detach() for n, p in layers.named_parameters()}, torch.randn(3, 2, 6, 6).double()
    left = {n: torch.randn(4, len(p), 2).double() for n, p in params.items() if p.dim() > 1}
    right = {n: torch.randn(4, p[0].numel(), 2).double() for n, p in params.items() if p.dim() > 1}
    added = {n: p + (left[n] @ right[n].mT).reshape(4, *p.shape) if n in left else p for n, p in params.items()}

    def thin(one: tuple[Tensors, Tensors]) -> torch.Tensor:
        weights = {n: low_rank(p, one[0][n], one[1][n]) if n in left else p for n, p in params.items()}
        return functional_call(layers, weights, (x,))

    full = torch.stack(
        [functional_call(layers, {n: t[j] if n in left else t for n, t in added.items()}, (x,)) for j in range(4)]
    )
    torch.testing.assert_close(vmap(thin)((left, right)), full, rtol=0, atol=1e-11)


def test_eggroll_scores_without_the_full_matrices_what_they_would_score(small: str) -> None:
    built = plan(config.parse(small + '[numerics]\ndtype = "float64"\n[strategy]\nname = "eggroll"\nrank = 2\n'))
    client = Client(1, 2, built.task.init(0), {}, {}, built.shard(1)[0], built.task, 0)
    thin = built.halves["train"](client).tensors["fitness"]  # type: ignore[operator]
    full = [built.rounds._full(2, pair, client.shared) for pair in range(32)]  # type: ignore[attr-defined]
    from fedjourney.strategies._evolution import score_pairs

    expected = score_pairs(client, client.shared, lambda pair: 0.05 * full[pair], 32)
    torch.testing.assert_close(thin, expected, rtol=0, atol=1e-12)


def test_what_clients_keep_comes_back_in_its_order() -> None:
    from fedjourney.strategies._replay import kept

    tensors = {"b": torch.ones(1), "a": torch.zeros(1), "c/d": torch.ones(2)}
    assert list(kept(dict(sorted(numbered(tensors).items())))) == ["b", "a", "c/d"]
