"""Hybrids and neuroevolution: what they are when a half is switched off, what they promise, what they refuse."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from evolution_quadratic import Federation

import fedjourney
from fedjourney import config, plugins
from fedjourney.errors import ConfigError
from fedjourney.strategies import Ask, Setting
from fedjourney.tensors import Tensors
from fedjourney.updates import Reply


def same(left: Tensors, right: Tensors) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_alternating_is_its_halves() -> None:
    search = {"population": 8, "learning_rate": 0.1}
    gradients = Federation("alternating", {"evolution_rounds": 0, **search}).play(3)
    assert same(gradients.params, Federation("fedavg").play(3).params)
    evolution = Federation("alternating", {"gradient_rounds": 0, **search}).play(3)
    assert same(evolution.params, Federation("open_es", search).play(3).params)


def test_alternating_keeps_its_schedule() -> None:
    federation = Federation("alternating", {"warm_up": 2, "gradient_rounds": 1, "evolution_rounds": 2}).play(8)
    played = [work for _, _, work in sorted({(round, 0, work) for round, _, work in federation.up})]
    assert played == ["train", "train", "train", "evolve", "evolve", "train", "evolve", "evolve"]


def test_a_sketch_then_evolution_is_its_halves() -> None:
    rates = {"learning_rate": 0.1, "evolution_learning_rate": 0.1}
    sketched = Federation("sketch_then_es", {"directions": 4, "switch": 9, **rates}).play(3)
    assert same(sketched.params, Federation("sketch", {"directions": 4, "learning_rate": 0.1}).play(3).params)
    search = {"population": 8, "learning_rate": 0.1, "utility": "raw", "shaping": "client", "downlink": "fitness"}
    evolved = Federation("sketch_then_es", {"directions": 4, "switch": 0, **rates}).play(3)
    assert same(evolved.params, Federation("open_es", search).play(3).params)
    both = Federation("sketch_then_es", {"directions": 4, "switch": 3, **rates}).play(3)
    assert same(both.params, sketched.params)
    both.play(2)
    after = Federation("open_es", search)  # the same rounds of evolution from there, its optimiser new
    after.params, after.round = sketched.params, 3
    assert same(both.params, after.play(2).params)


def test_fitness_weighted_is_fedavg_without_sharpness_and_a_softmax_with_it() -> None:
    assert same(Federation("fitness_weighted", {"sharpness": 0.0}).play(3).params, Federation("fedavg").play(3).params)
    rounds = Federation("fitness_weighted", {"sharpness": 2.0}).rounds
    metrics = {"num-examples": 7.0, "fitness": -1.5}
    assert rounds.weight(Reply({}, metrics, {})) == pytest.approx(7 * math.exp(-3))
    assert rounds.weight(Reply({}, {**metrics, "fitness": -1e6}, {})) > 0  # a cohort of hopeless models has a mean


@pytest.mark.parametrize("learning_rate", [0.2, 3.0])
def test_esgd_never_gets_worse(learning_rate: float) -> None:
    update = {"learning_rate": learning_rate, "epochs": 2}  # 3: every local step overshoots
    options = {"population": 2, "offspring": 4, "elite": 1, "panel": 4, "sigma": 0.05, "generations": 2}
    federation, best = Federation("esgd", options, update=update), [-federation_loss(update)]
    for _ in range(10):
        federation.play(1)
        best.append(float(federation.rounds.state["fitness"].max()))
        assert best[-1] == pytest.approx(-federation.gap() - optimum_loss(), rel=1e-9)  # it is the delivered model's
    assert best == sorted(best)
    assert best[-1] > best[0]
    diverges = Federation("fedavg", update=update).play(10).gap() > federation.gap()
    assert diverges == (learning_rate == 3.0)


def federation_loss(update: dict[str, Any]) -> float:
    fresh = Federation("fedavg", update=update)
    return fresh.gap() + optimum_loss()


def optimum_loss() -> float:
    fresh = Federation("fedavg")
    pooled = {name: torch.cat([shard.x[name] for shard in fresh.shards]) for name in fresh.shapes}
    parts = [fresh.task.scales[n] * ((fresh.optimum[n] - x) ** 2).flatten(1).sum(1) for n, x in pooled.items()]
    return float(0.5 * sum(parts).mean())  # type: ignore[union-attr]


def test_esgd_keeps_the_parent_where_training_made_it_worse() -> None:
    options = {"population": 2, "generations": 0, "elite": 2, "panel": 4, "sigma": 0.05}
    overshooting = Federation("esgd", options, update={"learning_rate": 3.0, "epochs": 2})
    start = overshooting.params
    first = overshooting.play(1).rounds.state["fitness"]
    again = overshooting.play(3).rounds.state["fitness"]
    assert torch.equal(first, again)
    best = min(0, 1, key=lambda j: -float(first[j]))
    assert same(overshooting.params, start) == (best == 0)


def test_evolved_weights_score_the_mixtures_they_mean() -> None:
    for population in (4, 8):  # 4 updates: sent as models (4 candidates), or as updates and weights (8)
        federation = Federation("evolved_weights", {"population": population, "committee": 2})
        rounds, params = federation.rounds, federation.params
        asked = rounds.tell(1, params, federation.exchange(rounds.ask(1, params, [0, 1, 2, 3])))
        assert isinstance(asked, Ask)
        assert any(name.startswith("candidates/") for name in asked.shared) == (population == 4)
        member = asked.clients[0]
        found = federation.reply(member, asked, {}).tensors["fitness"]
        logits, updates = rounds._asked, rounds._updates  # type: ignore[attr-defined]
        for row, fitness in zip(torch.from_numpy(logits), found, strict=True):
            weights = torch.softmax(row, 0)
            model = {n: p + sum(w * u[n] for w, u in zip(weights, updates, strict=True)) for n, p in params.items()}
            batch = next(iter(federation.task.batches({}, federation.shards[member], 0)))
            torch.testing.assert_close(-federation.task.loss(model, batch), fitness, rtol=1e-9, atol=1e-12)


def test_committees_rotate_and_are_charged_for_what_they_are_sent() -> None:
    options = {"population": 4, "committee": 1, "generations": 1}
    federation = Federation("evolved_weights", options, shapes={"w": (20, 30), "b": (7,)}).play(6)
    scored = {round: client for round, client, work in federation.up if work == "score"}
    assert len(scored) == 6
    assert len({*scored.values()}) > 1
    for round, client in scored.items():
        assert 4 * 607 * 8 < federation.down[round, client, "score"] < 4 * 607 * 8 + 200
        assert federation.up[round, client, "score"] < 4 * 8 + 200


def test_evolved_weights_without_their_library_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'needs the package cmaes.*pip install "fedjourney\[evolution\]"'):
        Federation("evolved_weights")


def generation(**options: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (parents [M, P], their fitness, children [M, P]) of one generation without mutation to speak of."""
    federation = Federation("genetic", {"population": 12, "crossover": 1.0, "elite": 2, **options})
    rounds, params = federation.rounds, federation.params
    parents = torch.randn(12, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    fitness = torch.randn(12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    rounds.sigma = 1e-300  # type: ignore[attr-defined]
    extra = {"population/w": parents[:, :6].reshape(12, 2, 3), "population/b": parents[:, 6:]}
    best, following = rounds.step(1, params, extra, {"fitness": fitness})  # type: ignore[attr-defined]
    assert torch.equal(torch.cat([t.flatten() for t in best.values()]), parents[fitness.argmax()])
    return parents, fitness, torch.cat([t.flatten(1) for t in following.values()], 1)


def test_selection_and_elites() -> None:
    parents, fitness, children = generation(recombination="none", share=0.25)
    ranked = fitness.argsort(descending=True)
    assert torch.equal(children[:2], parents[ranked[:2]])  # elites, unchanged and in order
    chosen = [int((parents == child).all(1).nonzero()) for child in children[2:]]
    assert {*chosen} <= {*ranked[:3].tolist()}  # truncation: the best quarter of 12
    assert len({*chosen}) > 1
    for selection in ("tournament", "fitness_weighted"):
        parents, fitness, children = generation(recombination="none", selection=selection, tournament=12)
        chosen = [int((parents == child).all(1).nonzero()) for child in children[2:]]
        assert float(fitness[chosen].mean()) > float(fitness.mean())
        assert int(fitness.argmin()) not in chosen


def test_recombination() -> None:
    parents, _, children = generation(recombination="uniform", share=1.0)
    assert bool((children.unsqueeze(1) == parents).any(1).all())  # every number comes from somebody
    mixed = [len({int(i) for i in (child == parents).int().argmax(0)}) for child in children[2:]]
    assert set(mixed) <= {1, 2}
    assert max(mixed) == 2
    parents, _, children = generation(recombination="layer", share=1.0)
    for part in (slice(0, 6), slice(6, 8)):
        assert bool((children[:, None, part] == parents[:, part]).all(2).any(1).all())  # whole tensors
    parents, _, children = generation(recombination="intermediate", share=1.0)
    halves = 0.5 * (parents.unsqueeze(0) + parents.unsqueeze(1)).flatten(0, 1)
    assert bool(((children[2:, None] - halves).abs().sum(2) < 1e-12).any(1).all())


def test_noise_levels_adapt_as_published() -> None:
    options = {"population": 4, "adaptation": "parameter", "recombination": "none", "sigma": 0.5, "elite": 0}
    federation = Federation("genetic", options)
    before = federation.rounds.begin(federation.params)["sigma"]  # type: ignore[attr-defined]
    federation.play(1)
    ratio = (federation.rounds.state["extra/sigma"] / before).log()
    level = federation.rounds._normal(torch.zeros(9), 1, 2, "levels")  # type: ignore[attr-defined]
    expected = level[0] / 16**0.5 + level[1:] / (2 * 8**0.5) ** 0.5  # τ' N + τ N_j for 8 levels
    torch.testing.assert_close(ratio[2], expected.double(), rtol=1e-5, atol=1e-6)


BAD = [
    ("open_es", "sigma = -0.1", "sigma: expected greater than 0, got -0.1"),
    ("open_es", "population = 7", "population: expected a multiple of 2, got 7"),
    ("snes", "sigma = 0.0", "sigma: expected greater than 0"),
    ("guided_es", "share = 1.5", "share: expected less than or equal to 1"),
    ("evofed", "blocks = 0", "blocks: expected greater than or equal to 1"),
    ("evofed", "blocks = 1211", "expected blocks <= 1210 (parameters of the model), got 1211"),
    ("decomfl", "momentum = 1.0", "momentum: expected less than 1"),
    ("decomfl", "clip = -1.0", "clip: expected greater than or equal to 0"),
    ("fedkseed", "seeds = 40000", "seeds: expected less than or equal to 32768"),
    ("genetic", "share = 0.0", "share: expected greater than 0"),
    ("genetic", "share = 0.1\npopulation = 8", "expected share * population >= 1, got 0.1 * 8"),
    ("genetic", "elite = 8\npopulation = 8", "expected elite < population, got 8 and 8"),
    ("genetic", "tournament = 9\npopulation = 8", "expected tournament <= population, got 9 and 8"),
    ("eggroll", "rank = 0", "rank: expected greater than or equal to 1"),
    ("alternating", "gradient_rounds = 0\nevolution_rounds = 0", "gradient_rounds + evolution_rounds >= 1"),
    ("esgd", "panel = 9", "expected panel <= 8 (clients of [partition]), got 9"),
    ("esgd", "population = 5", "expected population <= 4 (clients of a cohort), got 5"),
    ("esgd", "elite = 5", "expected elite <= 4 (population), got 5"),
    ("evolved_weights", "committee = 5", "expected committee <= 4 (clients of a cohort), got 5"),
]


@pytest.mark.parametrize(("name", "lines", "said"), BAD, ids=[f"{name}-{lines}" for name, lines, _ in BAD])
def test_bad_settings_are_refused_with_what_fails(name: str, lines: str, said: str, small: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fedjourney.run(config.parse(f'{small}[strategy]\nname = "{name}"\n{lines}\n'), tmp_path / "run")
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_evolution_refuses_an_update_and_transforms_that_nothing_reads(small: str) -> None:
    for name in ("snes", "decomfl", "fedkseed", "genetic", "eggroll", "guided_es", "random_search"):
        with pytest.raises(ConfigError, match=r"\[update\] is set"):
            config.parse(f'{small}[update]\nname = "sgd"\n[strategy]\nname = "{name}"\n')
    for name in ("evofed", "sketch"):
        from fedjourney.plan import plan

        with pytest.raises(ConfigError, match=r"\[\[transform\]\] acts on updates"):
            plan(config.parse(f'{small}[[transform]]\nname = "half"\n[strategy]\nname = "{name}"\n'))


def test_a_strategy_is_built_from_its_defaults() -> None:
    for name in ("esgd", "evolved_weights", "genetic"):
        table = plugins.resolve("strategy", {"name": name})
        assert plugins.build("strategy", table, Setting(0, 8, 4)) is not None
