"""What every strategy must hold, by existing. One that needs options to be tried has them in strategy_options.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from quadratic import Federation, alike, flat, optimum
from strategy_options import ON_DIGITS, OPTIONS
from test_evolution_convergence import CASES

import fedjourney
from fedjourney import config, plugins
from fedjourney.errors import ConfigError
from fedjourney.results import Checkpoint

EVERY = plugins.names("strategy")
CLASSES = {"fedproto"}  # needs a model with embeddings, which the quadratic has not: see test_fedproto.py
QUADRATIC = sorted({*EVERY} - CLASSES)
NEED_MORE = {"bulyan", "esgd", "evolved_weights", "krum", "trimmed_mean"}  # than one client a round, by default


def federation(name: str, **changed: object) -> Federation:
    settings = {"update": {"name": "sgd", "learning_rate": 0.4}, **changed}
    settings = {"cohort": 7, **settings}
    return Federation(name, OPTIONS.get(name, {}), alike(8, examples=1), **settings)  # type: ignore[arg-type]


def excess(run: Federation) -> float:
    """Return how far above its minimum the loss is, of the worst of the models in use, relative to the start."""
    best, a = optimum(run.shards), run.shards[0].x["a"][0]
    start = flat(run.task.init(0))
    return max(float((a * (model - best) ** 2).sum() / (a * (start - best) ** 2).sum()) for model in run.models())


@pytest.mark.parametrize("name", sorted({*QUADRATIC} - {case[0] for case in CASES}))  # those find it with options there
def test_it_finds_the_optimum_of_a_quadratic_though_a_fifth_of_the_replies_is_lost(name: str) -> None:
    assert excess(federation(name, lost=0.2).run(24)) < 0.01


@pytest.mark.parametrize("name", QUADRATIC)
def test_a_cohort_of_one_runs_or_is_refused_with_the_inequality(name: str) -> None:
    if name in NEED_MORE:
        with pytest.raises(ConfigError, match=r"[<>]|floor"):
            federation(name, cohort=1)
        return
    run = federation(name, cohort=1).run(3)
    assert all(torch.isfinite(model).all() for model in run.models())


@pytest.mark.parametrize("name", QUADRATIC)
def test_rounds_without_a_reply_change_nothing_and_it_goes_on(name: str) -> None:
    run = federation(name, lost=1.0)
    start = run.models()
    run.run(2)
    assert run.states == {}
    assert all(torch.equal(one, other) for one, other in zip(run.models(), start, strict=True))
    run.lost = 0.0
    run.step(3)
    run.step(4)
    assert all(torch.isfinite(model).all() for model in run.models())
    assert any(not torch.equal(one, other) for one, other in zip(run.models(), start, strict=True))


@pytest.mark.parametrize("name", QUADRATIC)
def test_what_it_remembers_is_all_in_the_checkpoint(name: str, tmp_path: Path) -> None:
    whole, first = federation(name).run(5), federation(name).run(3)
    (tmp_path / "c").write_bytes(Checkpoint(3, first.params, first.rounds.state).encode())
    kept, again = Checkpoint.read(tmp_path / "c"), federation(name)
    again.params, again.rounds.state, again.states = kept.params, kept.strategy, first.states
    for number in (4, 5):
        again.step(number)
    for theirs, ours in zip(again.models(), whole.models(), strict=True):
        assert torch.equal(theirs, ours)


@pytest.mark.parametrize("name", EVERY)
def test_it_runs_though_clients_fail(name: str, small: str, tmp_path: Path) -> None:
    strategy: Any = plugins.load("strategy", name)
    fails, asked = strategy.uses_update, 1 if strategy.pooled else 8
    update = '[update]\nname = "faulty:raising"\n' if fails else ""
    lines = "".join(f"{key} = {value!r}\n" for key, value in ON_DIGITS.get(name, {}).items())
    text = small.replace("cohort = 4", "cohort = 8\nevaluate_every = 0").replace("rounds = 4", "rounds = 2")
    text += '[task]\nname = "classification"\nbatch_size = 50\n'
    result = fedjourney.run(config.parse(f'{text}{update}[strategy]\nname = "{name}"\n{lines}'), tmp_path / "run")
    clients = [row["clients"] for row in result.rounds[1:]]
    assert all(one["answered"] + len(one["failed"]) == asked for one in clients)
    assert all(one["counted"] == (one["answered"] > 0) for one in clients)
    assert fails == any(one["failed"] for one in clients) or strategy.pooled  # by chance, where one alone is asked
    assert strategy.pooled or all(one["answered"] for one in clients)
    assert all(torch.isfinite(tensor).all() for tensor in result.parameters.values())
