"""FedProto against its equations written out: what is sent, what is averaged, what is learned, who is answered."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import fedjourney
from fedjourney import config
from fedjourney.batching import minibatches
from fedjourney.errors import ConfigError
from fedjourney.exchange import Answer, fold_block
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort
from fedjourney.strategies._local import group
from fedjourney.updates import Client, Reply
from fedjourney.wire import encoded_size


def built(small: str, strength: float = 0.7) -> Plan:
    text = small.replace("alpha = 0.5", "alpha = 0.1") + '[numerics]\ndtype = "float64"\n'
    return plan(config.parse(f'{text}[strategy]\nname = "fedproto"\nstrength = {strength}\nstart = "own"\n'))


def answered(found: Plan, index: int, shared: dict[str, torch.Tensor]) -> tuple[Client, Reply]:
    client = Client(index, 1, shared, {}, {}, found.shard(index)[0], found.task, 0)
    return client, found.halves["train"](client)  # type: ignore[operator]


def network(model: dict[str, torch.Tensor]) -> nn.Sequential:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).double()
    plain.load_state_dict(model)
    return plain


def some_prototypes() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {f"prototype/{c}": torch.rand(16, generator=draw, dtype=torch.float64) for c in (0, 3, 4, 7, 8)}


def test_a_client_learns_and_tells_what_the_equations_say(small: str) -> None:
    found, shared = built(small), some_prototypes()
    client, reply = answered(found, 3, shared)
    plain = network(found.task.init(seed_for(0, "fedproto", 3)))
    optimizer, shard = torch.optim.SGD(plain.parameters(), lr=0.1), client.shard
    for batch in minibatches(shard.x, shard.y, 10, seed_for(0, "batches", 1, 3, 0)):
        real = batch.mask.bool()
        x, y = batch.x["image"][real].double(), batch.y["label"][real]
        points = plain[:3](x)
        means = torch.stack(
            [shared.get(f"prototype/{int(c)}", point.detach()) for c, point in zip(y, points, strict=True)]
        )
        optimizer.zero_grad()
        away = nn.functional.mse_loss(points, means)  # 0 for classes without a prototype
        (nn.functional.cross_entropy(plain[3](points), y) + 0.7 * away).backward()
        optimizer.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(reply.state[f"model/{name}"], tensor, rtol=0, atol=1e-12)
    labels = shard.y["label"]
    assert set(reply.tensors) == {f"prototype/{c}" for c in labels.unique().tolist()}
    assert 1 < len(reply.tensors) < 10
    points = plain[:3](shard.x["image"].double()).detach()
    for c in labels.unique().tolist():
        expected = points[labels == c].mean(0)
        torch.testing.assert_close(reply.tensors[f"prototype/{c}"], expected, rtol=0, atol=1e-12)


def test_it_answers_by_the_nearest_prototype(small: str) -> None:
    found, shared = built(small), some_prototypes()
    _, reply = answered(found, 3, shared)
    half = found.halves["train"]
    model = half.personal({}, reply.state)  # type: ignore[union-attr]
    kept = group("prototype", reply.state)
    assert all(torch.equal(kept[name], tensor) for name, tensor in group("prototype", shared).items())
    test = found.dataset.test
    points = network(group("model", reply.state))[:3](test.x["image"].double()).detach()
    names = sorted(kept)
    nearest = torch.cdist(points, torch.stack([kept[name] for name in names])).argmin(1)
    said = network(model)(test.x["image"].double()).argmax(1)
    assert said.tolist() == [int(names[place]) for place in nearest]
    assert half.personal(shared, {}) is shared  # type: ignore[union-attr]


def test_a_prototype_is_the_plain_mean_of_those_who_hold_the_class(small: str) -> None:
    rounds = built(small).rounds
    a, b, c = (torch.full((16,), value, dtype=torch.float64) for value in (1.0, 2.0, 6.0))
    params = {"w": a}
    rows = [{"prototype/1": a, "prototype/2": a}, {"prototype/1": b}, {"prototype/1": c, "prototype/5": c}]
    cohort = Cohort([0, 1, 2], [0, 1, 2], {"num-examples": [1.0, 100.0, 1.0]}, rows=rows)
    assert rounds.tell(1, params, cohort) is params
    assert {name: float(mean[0]) for name, mean in rounds.state.items()} == {
        "prototype/1": 3.0, "prototype/2": 1.0, "prototype/5": 6.0,
    }  # fmt: skip
    rounds.tell(2, params, replace(cohort, clients=[0], rows=[{"prototype/2": c}]))
    assert float(rounds.state["prototype/1"][0]) == 3.0  # nobody in this cohort holds it: it stays
    assert float(rounds.state["prototype/2"][0]) == 6.0


def test_prototypes_alone_travel(small: str, tmp_path: Path) -> None:
    text = small.replace("alpha = 0.5", "alpha = 0.1").replace("cohort = 4", "cohort = 1.0\nholdout = 0.2")
    experiment = config.parse(f'{text}[strategy]\nname = "fedproto"\n', ["experiment.rounds=2"])
    result, found = fedjourney.run(experiment, tmp_path / "run"), plan(experiment)
    held = [set(found.shard(index)[0].y["label"].tolist()) for index in range(8)]
    numbers = sum(map(len, held)) * 16
    known = {f"prototype/{c}": torch.zeros(16) for c in set.union(*held)}
    empty = encoded_size({}, {"num-examples": 0.0, "loss": 0.0})
    for row, down in zip(result.rounds[1:], ({}, known), strict=True):
        assert row["bytes_down"] == 8 * encoded_size(down)
        names = sum(encoded_size({f"prototype/{c}": torch.zeros(16)}) - encoded_size({}) for own in held for c in own)
        assert row["bytes_up"] - 8 * empty == pytest.approx(names, abs=8 * 64)
        assert 4 * numbers <= row["bytes_up"] < 0.2 * 8 * encoded_size(result.parameters)
    first, evaluated = (result.rounds[round]["evaluation"] for round in (1, 2))
    assert first["personal/loss"]["mean"] is None  # somebody is asked about a class that it has never heard of
    assert 0 < evaluated["personal/loss"]["mean"] < 10
    assert evaluated["personal/accuracy"]["mean"] > evaluated["accuracy"]["mean"]
    start = found.task.init(seed_for(0, "model"))
    assert all(torch.equal(result.parameters[name], tensor) for name, tensor in start.items())


@pytest.mark.parametrize("start", ["common", "own"])
def test_models_begin_alike_or_not_and_nothing_is_sent_for_it(small: str, start: str) -> None:
    still = small + f'[update]\nname = "sgd"\nlearning_rate = 1e-12\n[strategy]\nname = "fedproto"\nstart = "{start}"\n'
    found = plan(config.parse(still))
    models = [group("model", answered(found, index, {})[1].state) for index in (0, 1)]
    apart = max(float((models[0][name] - tensor).abs().max()) for name, tensor in models[1].items())
    assert (apart < 1e-6) == (start == "common")


def test_a_reply_may_lack_classes_and_nothing_else(small: str) -> None:
    rounds = built(small).rounds
    like, one = rounds.like({}), torch.zeros(16, dtype=torch.float64)
    assert sorted(like) == [f"prototype/{c}" for c in range(10)]
    for tensors, problem in (
        ({"prototype/2": one}, None), ({}, None),
        ({"prototype/10": one}, "decode"), ({"prototype/2": one[:3]}, "decode"),
    ):  # fmt: skip
        (answer,) = fold_block(rounds, [], like, [Answer(0, dict(tensors), {"num-examples": 1.0})]).answers
        assert (answer.problem.stage if answer.problem else None) == problem
        assert problem or answer.tensors.keys() == tensors.keys()


def test_a_task_without_classes_is_refused(small: str) -> None:
    angles = small.replace('"digits"', '"rotated_digits"').replace('"dirichlet"', '"iid"').replace("alpha = 0.5", "")
    with pytest.raises(ConfigError, match=r"Take \[task\] classification"):
        plan(config.parse(angles + '[task]\nname = "regression"\n[strategy]\nname = "fedproto"\n'))
