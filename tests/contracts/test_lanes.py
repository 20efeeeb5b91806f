"""Lanes and compiled steps do what the plain loop does, and neighbours change nothing."""

import logging
from dataclasses import replace

import pytest
import torch

from fedjourney import config, plugins
from fedjourney.data import Examples
from fedjourney.lanes import Lanes
from fedjourney.plan import Plan, plan
from fedjourney.tasks import Signature
from fedjourney.updates import Client, LocalUpdate, Reply

OPTIONS = {"sgd": ("momentum = 0.9\nweight_decay = 0.01\nepochs = 2\n",)}
EVERY = [(name, options) for name in plugins.names("update") for options in OPTIONS.get(name, ("",))]


def built(small: str, update: str, options: str, **numerics: object) -> tuple[Plan, LocalUpdate]:
    text = f'{small}[numerics]\ndtype = "float64"\n[update]\nname = "{update}"\n{options}'
    found = plan(config.parse(text, [f"numerics.{key}={value}" for key, value in numerics.items()]))
    half = found.halves["train"]
    assert isinstance(half, LocalUpdate)
    return found, half


def clients(found: Plan) -> list[Client]:
    shared = found.task.init(0)
    seed = found.experiment.seed
    return [Client(i, 1, shared, {}, {}, found.shard(i)[0], found.task, seed) for i in range(len(found.shards))]


def in_lanes(found: Plan, half: LocalUpdate, some: list[Client], lanes: int, compiled: bool = False) -> list[Reply]:
    trainer = Lanes(replace(found.numerics, lanes=lanes, compile=compiled))
    return [reply for i in range(0, len(some), lanes) for reply in trainer.train(half, some[i : i + lanes])]


@pytest.mark.parametrize(("update", "options"), EVERY)
@pytest.mark.parametrize(
    ("lanes", "compiled"),
    [(3, False), pytest.param(1, True, marks=pytest.mark.compile), pytest.param(3, True, marks=pytest.mark.compile)],
)
def test_lanes_are_the_plain_loop(small: str, update: str, options: str, lanes: int, compiled: bool) -> None:
    found, half = built(small, update, options)
    some = clients(found)[: 3 if compiled else 8]  # of unlike sizes: Dirichlet
    assert len({len(client.shard) for client in some}) > 1
    plain = [client.train(half) for client in some]
    for ours, theirs in zip(in_lanes(found, half, some, lanes, compiled), plain, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, abs=1e-12)
        for name, tensor in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[name], tensor, rtol=0, atol=1e-12)


def test_neighbours_and_places_change_no_bit(small: str) -> None:
    found, half = built(small, "sgd", "", dtype="float32")
    some = clients(found)
    together = in_lanes(found, half, some, 4)
    for order in ([5], [7, 5, 0], [5, 1, 2, 3]):
        others = in_lanes(found, half, [some[i] for i in order], 4)
        for place, index in enumerate(order):
            for name, tensor in together[index].tensors.items():
                assert torch.equal(others[place].tensors[name], tensor)


def test_a_step_that_differs_from_eager_is_not_used(small: str, caplog: pytest.LogCaptureFixture) -> None:
    found, half = built(small, "sgd", "")

    def wrong(carry, batch, gradient):  # type: ignore[no-untyped-def]
        stepped = half.step(carry, batch, gradient)
        lanes = torch._C._functorch.is_functorch_wrapped_tensor(batch.mask)
        return stepped._replace(params={n: t + 1.0 * lanes for n, t in stepped.params.items()})

    broken = LocalUpdate(half.passes, half.start, wrong, half.finish)
    some = clients(found)[:2]
    with caplog.at_level(logging.WARNING, "fedjourney"):
        got = in_lanes(found, broken, some, 2)
    assert "differs from eager" in caplog.text
    for ours, theirs in zip(got, [client.train(half) for client in some], strict=True):
        for name, tensor in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[name], tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", ["lenet", "cnn", "mlp"])
def test_a_population_scored_in_lanes_is_each_candidate_alone(model: str) -> None:
    signature = Signature({"image": (1, 28, 28)}, {"label": ()}, 10)
    task = plugins.build(
        "task",
        plugins.resolve("task", {"name": "classification", "batch_size": 3}),
        lambda: plugins.build("model", plugins.resolve("model", {"name": model}), signature),
        signature,
        torch.float64,
    )
    draw = torch.Generator().manual_seed(0)
    shard = Examples({"image": torch.rand(7, 1, 28, 28, generator=draw)}, {"label": torch.arange(7)})
    population = {n: t + 0.1 * torch.randn(2, *t.shape, generator=draw) for n, t in task.init(0).items()}
    batch = next(iter(task.batches({}, shard, 5)))
    alone = torch.stack([-task.loss({n: t[i] for n, t in population.items()}, batch) for i in range(2)])
    torch.testing.assert_close(task.fitness(population, shard, 5), alone, rtol=0, atol=1e-12)
