"""What every task must hold, by existing: tests/task_options.py says with which data and model each is tried."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from task_options import TASKS

import fedjourney
from fedjourney import config, plugins
from fedjourney.batching import Batch, gradient
from fedjourney.data import Examples
from fedjourney.exhibit import Exhibits
from fedjourney.lanes import Lanes
from fedjourney.metrics import headline
from fedjourney.noise import rademacher
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.tasks._prediction import PerExample
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate

HEAD = '[experiment]\nname = "task"\nrounds = 2\ncohort = 2\n[engine]\nname = "serial"\n'
OPEN_ES = '[strategy]\nname = "open_es"\npopulation = 4\n'
EVERY = sorted(TASKS)

pytestmark = pytest.mark.parametrize("name", EVERY)


@cache
def built(name: str) -> Plan:
    """Build it in float64; nothing of a plan is changed by using it."""
    return plan(config.parse(HEAD + TASKS[name] + '[numerics]\ndtype = "float64"\n'))


def first(found: Plan, examples: Examples | None = None, client: int = 1) -> tuple[Tensors, Batch]:
    params = found.task.init(0)
    shard = found.shard(client)[0] if examples is None else examples
    return params, next(iter(found.task.batches(params, shard, 5)))


def at(params: Tensors, direction: Tensors, length: float) -> Tensors:
    return {n: p + length * direction[n] for n, p in params.items()}


def test_every_task_is_tried(name: str) -> None:
    assert config.parse(HEAD + TASKS[name])["task"]["name"] in plugins.names("task")
    assert {config.parse(HEAD + text)["task"]["name"] for text in TASKS.values()} == set(plugins.names("task"))


def test_shapes_are_what_the_contract_says(name: str) -> None:
    found = built(name)
    params, batch = first(found)
    size = len(batch.mask)
    assert batch.mask.shape == (size,)
    assert set(batch.mask.unique().tolist()) <= {0.0, 1.0}
    assert batch.key.shape == ()
    assert batch.key.dtype == torch.int64
    assert all(len(tensor) == size for tensor in (batch.x | batch.y).values())
    assert found.task.loss(params, batch).shape == ()
    assert all(tensor.dtype == torch.float64 for tensor in params.values())
    again = found.task.init(0)
    assert all(torch.equal(again[n], p) for n, p in params.items())
    other = found.task.init(1)
    assert any(not torch.equal(other[n], p) for n, p in params.items())
    sums = found.task.evaluate(params, found.dataset.test)
    summary = found.task.summary(sums)
    assert headline(summary) is not None
    assert all(np.isfinite(value) for value in summary.values())
    assert found.task.summary({n: torch.zeros_like(t) for n, t in sums.items()}) == {}


def test_a_pass_is_the_same_for_the_same_seed_only(name: str) -> None:
    found = built(name)
    params, shard = found.task.init(0), found.shard(1)[0]
    passes = [list(found.task.batches(params, shard, seed)) for seed in (5, 5, 6)]
    for one, two in zip(*passes[:2], strict=True):
        assert all(torch.equal(one.x[n], two.x[n]) for n in one.x)
        assert all(torch.equal(one.y[n], two.y[n]) for n in one.y)
    different = zip(passes[0], passes[2], strict=False)
    assert any(not torch.equal(a.x[n], b.x[n]) for a, b in different for n in a.x)


def test_gradients_are_finite_differences(name: str) -> None:
    found = built(name)
    params, batch = first(found)
    grads, _ = gradient(found.task.loss, params, batch)
    for seed in (1, 2):
        direction = rademacher(seed, params)
        slope = (
            found.task.loss(at(params, direction, 1e-6), batch) - found.task.loss(at(params, direction, -1e-6), batch)
        ) / 2e-6
        along = sum((grads[n] * direction[n]).sum() for n in params)
        torch.testing.assert_close(slope, along, rtol=1e-5, atol=1e-7)
    assert any(bool(grad.any()) for grad in grads.values())


def test_sums_add_up_over_any_cut(name: str) -> None:
    found = built(name)
    params, examples = found.task.init(0), found.dataset.test
    whole = found.task.evaluate(params, examples)
    for places in ([len(examples) // 3], [1, len(examples) - 1]):
        cuts = [slice(a, b) for a, b in zip([0, *places], [*places, len(examples)], strict=True)]
        parts = [found.task.evaluate(params, examples.cut(rows)) for rows in cuts]
        for key, total in whole.items():
            torch.testing.assert_close(sum(part[key] for part in parts), total, rtol=1e-11, atol=1e-9)
    summary = found.task.summary({key: 3 * total for key, total in whole.items()})
    assert summary == pytest.approx(found.task.summary(whole), rel=1e-9)  # thrice the same examples


def test_padding_changes_nothing(name: str) -> None:
    found = built(name)
    shard = found.shard(1)[0]
    params, batch = first(found, shard.cut(slice(0, min(7, len(shard)))))
    real = batch.mask.bool()
    short = Batch({n: t[real] for n, t in batch.x.items()}, {n: t[real] for n, t in batch.y.items()},
                  batch.mask[real], batch.key)  # fmt: skip
    other = {n: torch.where(_like(real, t), t, t.roll(1, 0)) for n, t in batch.x.items()}
    filled = batch._replace(x=other, y={n: torch.where(_like(real, t), t, t.roll(1, 0)) for n, t in batch.y.items()})
    grads, loss = gradient(found.task.loss, params, batch)
    for changed in (short, filled):
        others, value = gradient(found.task.loss, params, changed)
        torch.testing.assert_close(value, loss, rtol=0, atol=1e-12)
        for n, grad in grads.items():
            torch.testing.assert_close(others[n], grad, rtol=0, atol=1e-11)


def _like(mask: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return mask.view(-1, *[1] * (tensor.dim() - 1))


def test_a_model_that_gives_nan_is_told_and_never_ends_a_run(name: str) -> None:
    """A run that diverges goes on to its end, and no metric of a loss or of right answers is a number then."""
    found = built(name)
    params, examples = {n: t * torch.nan for n, t in found.task.init(0).items()}, found.dataset.test
    told = found.task.summary(found.task.evaluate(params, examples))
    assert told.keys() == found.task.summary(found.task.evaluate(found.task.init(0), examples)).keys()
    if found.experiment["task"]["name"] not in ("control", "bandits"):  # an action is taken, whatever the policy gives
        assert math.isnan(told.get("loss", math.nan))
        assert math.isnan(told[next(iter(told))])
    if isinstance(found.task, Exhibits):
        assert isinstance(found.task.exhibit(params, examples), dict)


def test_fitness_is_that_of_each_alone_and_higher_is_better(name: str) -> None:
    found = built(name)
    params, shard = found.task.init(0), found.shard(1)[0]
    each = [at(params, rademacher(seed, params), 0.1) for seed in range(3)]
    population = {n: torch.stack([one[n] for one in each]) for n in params}
    scored = found.task.fitness(population, shard, 5)
    assert scored.shape == (3,)
    alone = [found.task.fitness({n: t[None] for n, t in one.items()}, shard, 5) for one in each]
    torch.testing.assert_close(scored, torch.cat(alone), rtol=1e-9, atol=1e-9)
    if isinstance(found.task, PerExample):
        batch = next(iter(found.task.batches({}, shard, 5)))
        losses = torch.stack([found.task.loss(one, batch) for one in each])
        torch.testing.assert_close(scored, -losses, rtol=1e-9, atol=1e-9)


def test_lanes_are_the_plain_loop(name: str) -> None:
    found = built(name)
    half, shared = found.halves["train"], found.task.init(0)
    assert isinstance(half, LocalUpdate)
    some = [Client(i, 1, shared, {}, {}, found.shard(i)[0], found.task, 0) for i in (0, 1)]
    trainer = Lanes(replace(found.numerics, lanes=2))
    together = list(trainer.train(half, some))
    assert not trainer.fell_back
    for client, ours in zip(some, together, strict=True):
        theirs = client.train(half)
        for n, tensor in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[n], tensor, rtol=0, atol=1e-10)


class StopError(Exception):
    """Ends a run after its first round."""


def stop(row: dict[str, object]) -> None:
    if row["round"] == 1:
        raise StopError


def run(text: str, folder: Path, *overrides: str) -> fedjourney.Result:
    """Run it; every client that is asked answers."""
    result = fedjourney.run(config.parse(text, ["experiment.evaluate_every=0", *overrides]), folder)
    assert all(row["clients"]["answered"] == 2 and not row["clients"]["failed"] for row in result.rounds[1:])
    fresh = built_parameters(text)
    assert any(not torch.equal(fresh[n], p) for n, p in result.parameters.items())
    return result


@cache
def built_parameters(text: str) -> Tensors:
    return plan(config.parse(text)).task.init(seed_for(0, "model"))


def test_it_runs_without_any_gradient(name: str, tmp_path: Path) -> None:
    run(HEAD + TASKS[name] + OPEN_ES, tmp_path / "run", "experiment.rounds=1")


def test_it_runs_and_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    whole = run(HEAD + TASKS[name], tmp_path / "whole")
    experiment = config.parse(HEAD + TASKS[name], ["experiment.evaluate_every=0"])
    with pytest.raises(StopError):
        fedjourney.run(experiment, tmp_path / "stopped", watch=stop)
    assert fedjourney.resume(tmp_path / "stopped").digest == whole.digest


@pytest.mark.kill
@pytest.mark.parametrize("strategy", ["", OPEN_ES], ids=["fedavg", "open_es"])
def test_serial_and_workers_give_the_same_bits(name: str, strategy: str, tmp_path: Path) -> None:
    serial = run(HEAD + TASKS[name] + strategy, tmp_path / "serial")
    local = run(HEAD + TASKS[name] + strategy, tmp_path / "local", "engine.name=local", "engine.workers=2")
    assert local.digest == serial.digest
