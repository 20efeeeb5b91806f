"""Few-shot tasks against meta-gradients written out by hand, differences of the meta-objective, and scikit-learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from task_options import TASKS
from torch import nn

import fedjourney
from fedjourney import config
from fedjourney.batching import Batch, gradient
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.plan import plan
from fedjourney.seeds import seed_for
from fedjourney.tally import Tally
from fedjourney.tasks import Signature
from fedjourney.tasks.adaptation import adaptation
from fedjourney.tasks.prototypes import prototypes
from fedjourney.tensors import Tensors

CURVES = Signature({"points": (7, 1)}, {"values": (7, 1)}, 0)
SHEETS = Signature({"images": (3, 4, 5)}, {"classes": (3, 4)}, 9)


def curved(signature: Signature) -> nn.Module:
    """A network with curvature everywhere."""
    return nn.Sequential(nn.Linear(signature.features, 4), nn.Tanh(), nn.Linear(4, signature.classes))


def linear(signature: Signature) -> nn.Module:
    """A network whose squared error is a quadratic of its parameters."""
    return nn.Linear(signature.features, signature.classes)


def curves(model: Callable[[Signature], nn.Module] = curved, **options: Any) -> Any:
    return adaptation(model, CURVES, torch.float64, **({"shots": 3, "rate": 0.1} | options))


def episodes(count: int = 3) -> Batch:
    chance = np.random.default_rng(0)
    x = torch.from_numpy(chance.uniform(-2, 2, (count, 7, 1)))
    y = torch.from_numpy(chance.normal(size=(count, 7, 1)))
    return Batch({"points": x}, {"values": y}, torch.ones(count), torch.tensor(0))


def sheets(count: int = 40) -> Examples:
    chance = np.random.default_rng(1)
    classes = np.stack([chance.permutation(9)[:3] for _ in range(count)])
    images = chance.normal(size=(9, 5))[classes][:, :, None] + 1.0 * chance.normal(size=(count, 3, 4, 5))
    return Examples(
        {"images": torch.from_numpy(images)}, {"classes": torch.from_numpy(classes)[:, :, None].repeat(1, 1, 4)}
    )


def by_hand(params: Tensors, batch: Batch, steps: int, rate: float, second: bool) -> tuple[Tensors, torch.Tensor]:
    """Return (gradient, loss) of the meta-objective by autograd over a plain network, episode by episode."""
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    leaves = [params[name].clone().requires_grad_() for name in names]

    def error(w: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((torch.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3] - y) ** 2).mean()

    total = torch.zeros((), dtype=torch.float64)
    for x, y in zip(batch.x["points"], batch.y["values"], strict=True):
        w = leaves
        for _ in range(steps):
            slopes = torch.autograd.grad(error(w, x[:3], y[:3]), w, create_graph=second)
            w = [one - rate * slope for one, slope in zip(w, slopes, strict=True)]
        total = total + error(w, x[3:], y[3:])
    loss = total / len(batch.mask)
    return dict(zip(names, torch.autograd.grad(loss, leaves), strict=True)), loss.detach()


def same(one: Tensors, other: Tensors, tolerance: float = 1e-12) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", ["second", "first"])
def test_meta_gradients_are_those_written_out_by_hand(steps: int, order: str) -> None:
    task, batch = curves(steps=steps, order=order), episodes()
    params = task.init(3)
    grads, loss = gradient(task.loss, params, batch)
    expected, value = by_hand(params, batch, steps, 0.1, order == "second")
    same(grads, expected)
    torch.testing.assert_close(loss, value, rtol=0, atol=1e-12)
    if order == "second":  # and they are not the same thing
        assert (
            max(float((grads[n] - g).abs().max()) for n, g in by_hand(params, batch, steps, 0.1, False)[0].items())
            > 1e-3
        )


def test_hessian_free_is_exact_on_a_quadratic_and_near_elsewhere() -> None:
    batch = episodes()
    for model, delta, tolerance in ((linear, 0.5, 1e-12), (curved, 1e-4, 1e-7)):
        exact, free = curves(model), curves(model, order="hessian_free", delta=delta)
        params = exact.init(3)
        expected, value = gradient(exact.loss, params, batch)
        grads, loss = gradient(free.loss, params, batch)
        same(grads, expected, tolerance)
        torch.testing.assert_close(loss, value, rtol=0, atol=1e-12)


def test_hessian_free_on_a_linear_model_is_identity_minus_rate_times_hessian() -> None:
    task, batch = curves(linear, order="hessian_free"), episodes(1)
    params = task.init(3)
    x, y = (torch.cat([batch.x["points"][0], torch.ones(7, 1)], 1), batch.y["values"][0])
    w = torch.cat([params["weight"][0], params["bias"]])
    hessian = 2 / 3 * x[:3].T @ x[:3]
    inner = w - 0.1 * 2 / 3 * x[:3].T @ (x[:3] @ w - y[:3, 0])
    outer = 2 / 4 * x[3:].T @ (x[3:] @ inner - y[3:, 0])
    grads, _ = gradient(task.loss, params, batch)
    found = torch.cat([grads["weight"][0], grads["bias"]])
    torch.testing.assert_close(found, outer - 0.1 * hessian @ outer, rtol=0, atol=1e-12)


def test_orders_agree_where_nothing_is_curved() -> None:
    class Flat(nn.Module):
        """Gives |x| √w: against targets of 0 the squared error is x² w, linear in w."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * x * self.w).sqrt()

    batch = episodes()
    batch = batch._replace(y={"values": torch.zeros_like(batch.y["values"])})
    found = {}
    for order in ("first", "second"):
        task = curves(lambda signature: Flat(), order=order, steps=2, rate=0.01)
        found[order], _ = gradient(task.loss, task.init(0), batch)
    same(found["first"], found["second"])
    assert bool(found["first"]["w"].abs() > 0.1)


def test_metasgd_begins_as_maml_and_its_rates_have_their_own_slopes() -> None:
    batch = episodes()
    plain, learned = curves(steps=2), curves(steps=2, learned_rates=True)
    params = learned.init(3)
    same({n: t for n, t in params.items() if not n.startswith("rate/")}, plain.init(3))
    grads, loss = gradient(learned.loss, params, batch)
    expected, value = gradient(plain.loss, plain.init(3), batch)
    same({n: g for n, g in grads.items() if not n.startswith("rate/")}, expected)
    torch.testing.assert_close(loss, value, rtol=0, atol=1e-12)
    for name in ("rate/0.weight", "rate/2.bias"):
        moved = []
        for way in (1e-5, -1e-5):
            rates = params[name].clone()
            rates.view(-1)[0] += way
            moved.append(learned.loss(params | {name: rates}, batch))
        torch.testing.assert_close(grads[name].view(-1)[0], (moved[0] - moved[1]) / 2e-5, rtol=1e-6, atol=1e-9)
    rates = {n: (torch.zeros_like(t) if n.startswith("rate/") else t) for n, t in params.items()}
    found = learned.summary(learned.evaluate(rates, Examples(batch.x, batch.y)))
    assert found["mse"] == found["unadapted_mse"]  # with rates of 0 nothing is adapted


def test_without_steps_it_is_the_plain_loss_of_all_points() -> None:
    task, batch = curves(steps=0), episodes()
    params = task.init(3)
    x, y = batch.x["points"].flatten(0, 1), batch.y["values"].flatten(0, 1)
    told = torch.tanh(x @ params["0.weight"].T + params["0.bias"]) @ params["2.weight"].T + params["2.bias"]
    torch.testing.assert_close(task.loss(params, batch), ((told - y) ** 2).mean(), rtol=0, atol=1e-12)


def test_evaluation_adapts_to_each_episode_for_itself() -> None:
    task, batch = curves(evaluation_steps=4), episodes()
    params = task.init(3)
    found = task.summary(task.evaluate(params, Examples(batch.x, batch.y)))
    each = []
    for place in range(3):
        one = Batch({"points": batch.x["points"][place : place + 1]}, {"values": batch.y["values"][place : place + 1]},
                    torch.ones(1), batch.key)  # fmt: skip
        each.append(float(by_hand(params, one, 4, 0.1, False)[1]))
    assert found["mse"] == pytest.approx(np.mean(each), abs=1e-12)
    assert found["mse_deviation"] == pytest.approx(np.std(each), abs=1e-9)
    assert found["unadapted_mse"] == pytest.approx(float(by_hand(params, batch, 0, 0.1, False)[1]), abs=1e-12)


def test_gradients_within_a_loss_are_counted() -> None:
    for order, expected in (("first", 1 + 1), ("second", 2 + 1), ("hessian_free", 3 + 1)):
        task, tally = curves(order=order), Tally()
        with tally.watching():
            gradient(task.loss, task.init(0), episodes(2))
        assert tally.computed.gradients == 2 * expected


@pytest.mark.parametrize("shots", [1, 3])
def test_prototypes_are_scikit_learns_nearest_neighbours_of_means(shots: int) -> None:
    task, some = prototypes(curved, SHEETS, torch.float64, shots=shots, embedding=6), sheets()
    params = task.init(0)
    found = task.summary(task.evaluate(params, some))
    embedded = torch.tanh(some.x["images"] @ params["0.weight"].T + params["0.bias"]) @ params["2.weight"].T
    for key, points in (("accuracy", embedded + params["2.bias"]), ("pixels_accuracy", some.x["images"])):
        scores = []
        for sheet in points.numpy():
            support, query = sheet[:, :shots], sheet[:, shots:]
            nearest = KNeighborsClassifier(1).fit(support.mean(1), range(3))
            scores.append(nearest.score(query.reshape(-1, sheet.shape[-1]), np.repeat(range(3), 4 - shots)))
        assert found[key] == pytest.approx(np.mean(scores), abs=1e-12)
        assert 0.4 < np.mean(scores) < 1  # a third is chance
        if key == "accuracy":
            assert found["accuracy_deviation"] == pytest.approx(np.std(scores), abs=1e-9)


def test_the_loss_of_prototypes_is_the_equation() -> None:
    task, some = prototypes(linear, SHEETS, torch.float64, shots=2, embedding=6), sheets(2)
    params = task.init(0)
    ours = task.loss(params, Batch(some.x, some.y, torch.ones(2), torch.tensor(0)))
    terms = []
    for sheet in (some.x["images"] @ params["weight"].T + params["bias"]).numpy():
        means = sheet[:, :2].mean(1)
        for place in range(3):
            for point in sheet[place, 2:]:
                nearness = np.exp(-((point - means) ** 2).sum(1))
                terms.append(-np.log(nearness[place] / nearness.sum()))
    assert float(ours) == pytest.approx(np.mean(terms), abs=1e-9)


def test_a_pass_deals_every_image_once_and_shots_are_drawn_anew() -> None:
    task, some = prototypes(linear, SHEETS, torch.float64), sheets(6)
    seen = [torch.cat([batch.x["images"] for batch in task.batches({}, some, seed)]) for seed in (1, 2)]
    for images in seen:
        assert sorted(images.sum(-1).flatten().tolist()) == pytest.approx(
            sorted(some.x["images"].sum(-1).flatten().tolist())
        )
    firsts = [{round(value, 9) for value in images[:, :, 0].sum(-1).flatten().tolist()} for images in seen]
    assert firsts[0] != firsts[1]
    groups = [
        {frozenset(group.sum(-1).tolist()) for group in images.flatten(0, 1)} for images in (*seen, some.x["images"])
    ]
    assert groups[0] == groups[1] == groups[2]  # the images of a class stay together


def test_what_is_no_episode_is_refused() -> None:
    plain = Signature({"image": (1, 8, 8)}, {"label": ()}, 10)
    for make in (
        lambda: adaptation(linear, plain, torch.float64),
        lambda: prototypes(linear, plain, torch.float64),
        lambda: prototypes(linear, CURVES, torch.float64),
        lambda: prototypes(linear, SHEETS, torch.float64, shots=4),
        lambda: adaptation(linear, CURVES, torch.float64, shots=7),
        lambda: curves(order="hessian_free", steps=2),
        lambda: curves(learned_rates=True, steps=0),
    ):
        with pytest.raises(ConfigError, match="expect"):
            make()


def test_reptile_is_fedavg_with_a_server_rate(tmp_path: Path) -> None:
    text = TASKS["adaptation"].replace('name = "adaptation"', 'name = "adaptation"\nsteps = 0')
    text = '[experiment]\nname = "reptile"\nrounds = 2\ncohort = 4\nholdout = 0.0\nevaluate_every = 0\n' + text
    text += '[update]\nname = "sgd"\nlearning_rate = 0.02\n[strategy]\nname = "fedavg"\nserver_learning_rate = 0.3\n'
    experiment = config.parse(text + '[numerics]\ndtype = "float64"\n[engine]\nname = "serial"\n')
    result, found = fedjourney.run(experiment, tmp_path / "run"), plan(experiment)
    theta = found.task.init(seed_for(0, "model"))
    for number in (1, 2):
        ends = []
        for client in range(4):
            net = nn.Sequential(nn.Flatten(), nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1)).double()
            net.load_state_dict(theta)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
            shard = found.shard(client)[0]
            for batch in found.task.batches({}, shard, seed_for(0, "batches", number, client, 0)):
                real = batch.mask.bool()
                optimizer.zero_grad()
                x, y = batch.x["points"][real].double().flatten(0, 1), batch.y["values"][real].double().flatten(0, 1)
                nn.functional.mse_loss(net(x), y).backward()
                optimizer.step()
            ends.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        theta = {n: t + 0.3 * torch.stack([end[n] - t for end in ends]).mean(0) for n, t in theta.items()}
    same(result.parameters, theta)


def test_the_picture_shows_the_curve_that_adaptation_leads_to() -> None:
    signature = Signature({"points": (8, 1)}, {"values": (8, 1)}, 0)
    task = adaptation(lambda one: nn.Linear(1, 1), signature, torch.float32, shots=4, rate=0.1, evaluation_steps=200)
    x = torch.linspace(-1, 1, 8)[torch.randperm(8, generator=torch.Generator().manual_seed(0))].view(1, 8, 1)
    flat = {name: torch.zeros_like(tensor) for name, tensor in task.init(0).items()}
    ((caption, picture),) = task.exhibit(flat, Examples({"points": x}, {"values": x})).items()
    assert caption.startswith("New functions: the 4 points")
    orange = (picture == (235, 104, 52)).all(-1).nonzero()
    assert abs(orange[0] + orange[1] / 1.3 - (len(picture) - 1) * (1 + 1 / 1.3) / 2).max() < 3  # y = x, a height of 2.6
    assert task.exhibit(flat, Examples({"points": x[:0]}, {"values": x[:0]})) == {}
