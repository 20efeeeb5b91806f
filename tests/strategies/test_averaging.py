"""The averaging family: Flower's own arithmetic on the same replies, and the identities of the papers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flowers
from quadratic import Federation, alike, flat, optimum, split, unlike

import fedjourney
from fedjourney import config, plugins
from fedjourney.errors import ConfigError
from fedjourney.flower_private import ensure_identity
from fedjourney.strategies import Accumulator, Cohort, Rounds, Setting
from fedjourney.tensors import Tensors
from fedjourney.updates import Reply

SGD = {"name": "sgd", "learning_rate": 0.1}


def built(name: str, **options: Any) -> Rounds:
    table = plugins.resolve("strategy", {"name": name, **options})
    strategy: Rounds = plugins.build("strategy", table, Setting(0, 20, 9))
    return strategy


def answers(round_: int, count: int = 9, size: int = 5) -> tuple[list[torch.Tensor], list[float]]:
    draw = torch.Generator().manual_seed(round_)
    updates = [torch.randn(size, generator=draw, dtype=torch.float64) for _ in range(count)]
    return updates, [float(n) for n in torch.randint(1, 30, (count,), generator=draw)]


def cohort_of(strategy: Rounds, updates: list[torch.Tensor], sizes: list[float], **metrics: list[float]) -> Cohort:
    """Return the cohort that the server would make of these updates."""
    cohort = Cohort(list(range(len(updates))), list(range(len(updates))), {"num-examples": sizes, **metrics})
    rows: list[Tensors] = [{f"update/{n}": t for n, t in split(update).items()} for update in updates]
    if strategy.fold is None:
        cohort.rows = rows
        return cohort
    sums: Accumulator | None = None
    for place, row in enumerate(rows):
        told = {name: values[place] for name, values in cohort.metrics.items()}
        clones = {name: tensor.clone() for name, tensor in row.items()}
        sums = strategy.fold.add(sums, clones, strategy.weight(Reply(row, told, {})))
    assert sums is not None
    cohort.tensors = strategy.fold.finish(sums)
    return cohort


def flower_replies(params: torch.Tensor, updates: list[torch.Tensor], sizes: list[float]) -> Iterable[Message]:
    ensure_identity()
    for place, (update, size) in enumerate(zip(updates, sizes, strict=True)):
        told = {"num-examples": size}
        arrays = ArrayRecord({"w": Array((params + update).numpy().copy())})
        ask = Message(RecordDict(), dst_node_id=place + 1, message_type="train")
        yield Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(told)}), reply_to=ask)


def flowers_next(theirs: Any, round_: int, params: torch.Tensor, replies: Iterable[Message]) -> torch.Tensor:
    record = ArrayRecord({"w": Array(params.numpy().copy())})
    is_record = isinstance(theirs, flowers.FedAvgM)
    theirs.current_arrays = record if is_record else {"w": params.numpy().copy()}
    arrays, _ = theirs.aggregate_train(round_, list(replies))
    return torch.from_numpy(np.array(arrays["w"].numpy()))


LATE = 10**6  # Flower's FedAdam corrects its step by 1 - β^(round + 1): nothing is left of that so late


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("fedavg", {}, flowers.FedAvg()),
        ("fedavgm", {"momentum": 0.7, "server_learning_rate": 0.5}, flowers.FedAvgM(
            server_momentum=0.7, server_learning_rate=0.5)),
        ("fedadagrad", {"learning_rate": 0.2, "beta_1": 0.0, "initial": 0.0}, flowers.FedAdagrad(eta=0.2)),
        ("fedadam", {"learning_rate": 0.2, "beta_1": 0.8, "initial": 0.0}, flowers.FedAdam(eta=0.2, beta_1=0.8)),
        ("fedyogi", {"learning_rate": 0.2, "beta_1": 0.8, "initial": 0.0}, flowers.FedYogi(eta=0.2, beta_1=0.8)),
        ("median", {}, flowers.FedMedian()),
        ("trimmed_mean", {"share": 0.25}, flowers.FedTrimmedAvg(beta=0.25)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_it_is_flowers_own(name: str, options: dict[str, Any], theirs: Any) -> None:
    ours, params = built(name, **options), torch.linspace(-1, 1, 5, dtype=torch.float64)
    for round_ in range(1, 5):
        updates, sizes = answers(round_)
        expected = flowers_next(theirs, LATE + round_, params, flower_replies(params, updates, sizes))
        told = ours.tell(round_, split(params), cohort_of(ours, updates, sizes))
        assert isinstance(told, dict)
        torch.testing.assert_close(flat(told), expected, rtol=0, atol=1e-12)
        params = flat(told)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 2.0])
def test_qfedavg_is_the_written_out_formula(q: float) -> None:
    # Flower's own makes the garbage collector run for every array: seconds
    ours, params, lipschitz = built("qfedavg", q=q, lipschitz=10.0), torch.linspace(-1, 1, 5, dtype=torch.float64), 10.0
    updates, sizes = answers(1)
    losses = [0.1 + 0.3 * place for place in range(len(updates))]
    numerator, denominator = torch.zeros(5, dtype=torch.float64), 0.0
    for update, loss in zip(updates, losses, strict=True):
        slope = lipschitz * (params - (params + update))
        numerator += loss**q * slope
        denominator += q * loss ** (q - 1) * float((slope**2).sum()) + lipschitz * loss**q
    moved = [float((update**2).sum()) for update in updates]
    cohort = cohort_of(ours, updates, sizes, **{"received-loss": losses, "moved-squared": moved})
    told = ours.tell(1, split(params), cohort)
    assert isinstance(told, dict)
    torch.testing.assert_close(flat(told), params - numerator / denominator, rtol=0, atol=1e-8)  # TINY
    if q == 0:
        torch.testing.assert_close(flat(told), params + torch.stack(updates).mean(0), rtol=0, atol=1e-12)


def test_qfedavg_clients_say_the_loss_of_what_they_received() -> None:
    run = Federation("qfedavg", {}, unlike(3, examples=5), 3, update=SGD, batch_size=2)
    cohort = run.exchange(1, run.rounds.ask(1, run.params, [0, 1, 2]), {})
    for index, loss in enumerate(cohort.metrics["received-loss"]):
        a, b = run.shards[index].x["a"][0], run.shards[index].x["b"][0]
        assert loss == pytest.approx(float(0.5 * (a * (flat(run.params) - b) ** 2).sum()), rel=1e-12)


def test_fedprox_without_its_term_is_fedavg_bit_for_bit(small: str, tmp_path: Any) -> None:
    text = small.replace("rounds = 4", "rounds = 2") + '[update]\nname = "sgd"\nmomentum = 0.9\nepochs = 2\n'
    prox = fedjourney.run(config.parse(text + '[strategy]\nname = "fedprox"\nmu = 0.0\n'), tmp_path / "a")
    plain = fedjourney.run(config.parse(text), tmp_path / "b")
    assert prox.digest == plain.digest


def test_fedprox_minimises_its_own_loss() -> None:
    run = Federation("fedprox", {"mu": 2.0}, unlike(1), 1, update=SGD | {"epochs": 100}).run(1)
    a, b, start = run.shards[0].x["a"][0], run.shards[0].x["b"][0], flat(run.task.init(0))
    torch.testing.assert_close(flat(run.params), (a * b + 2.0 * start) / (a + 2.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednova_at_equal_steps_is_fedavg(momentum: float) -> None:
    update = SGD | {"momentum": momentum, "epochs": 2}
    runs = [Federation(name, {}, unlike(6), 4, update=update).run(3) for name in ("fednova", "fedavg")]
    torch.testing.assert_close(flat(runs[0].params), flat(runs[1].params), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("momentum", "mu"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.5)])
def test_fednova_is_the_written_out_formula_at_unequal_steps(momentum: float, mu: float) -> None:
    shards = [shard.take(torch.arange(n)) for shard, n in zip(unlike(3, examples=9), (2, 5, 9), strict=True)]
    update = SGD | {"momentum": momentum}
    nova = Federation("fednova", {"mu": mu}, shards, 3, update=update)
    prox = Federation("fedprox", {"mu": mu}, shards, 3, update=update)
    tau, rho = torch.tensor([2.0, 5.0, 9.0], dtype=torch.float64), momentum
    p = tau / 16
    if mu:
        norms = torch.tensor([sum((1 - 0.1 * mu) ** k for k in range(int(t))) for t in tau], dtype=torch.float64)
    else:
        norms = (tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)
    replies = [prox.client(1, prox.rounds.ask(1, prox.params, [0, 1, 2]), i).train(prox.halves["train"])  # type: ignore
               for i in range(3)]  # fmt: skip
    moved = torch.stack([torch.cat([r.tensors["update/body"], r.tensors["update/head"]]) for r in replies])
    effective = (p * (tau if mu else norms)).sum()
    expected = flat(prox.params) + effective * ((p / norms)[:, None] * moved).sum(0)
    torch.testing.assert_close(flat(nova.run(1).params), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("update", [{"momentum": 0.9}, {"momentum": 0.001, "weight_decay": 0.01}])
@pytest.mark.parametrize("name", ["scaffold", "qfedavg"])
def test_what_needs_plain_steps_refuses_momentum(name: str, update: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f'strategy "{name}" needs plain gradient steps'):
        Federation(name, {}, alike(3), 3, update=SGD | update)


def test_scaffolds_first_round_is_the_plain_mean() -> None:
    runs = [Federation(name, {}, unlike(6), 4, update=SGD).run(1) for name in ("scaffold", "fedavg")]
    torch.testing.assert_close(flat(runs[0].params), flat(runs[1].params), rtol=0, atol=1e-12)


@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_scaffolds_server_control_is_the_mean_of_the_clients(lost: float) -> None:
    run = Federation("scaffold", {}, unlike(6), 4, update=SGD, lost=lost)
    for number in range(1, 12):
        run.step(number)
        for name in run.params:
            zero = torch.zeros_like(run.params[name])
            kept = [run.states.get(i, {}).get(f"control/{name}", zero) for i in range(6)]
            torch.testing.assert_close(run.rounds.state[f"control/{name}"], torch.stack(kept).mean(0))


def test_scaffolds_change_of_control_follows_from_its_update() -> None:
    # option II: Δc_i = -c - Δy_i / (K_i λ); hence the second group could be derived by the server
    run = Federation("scaffold", {}, unlike(4), 4, update=SGD).run(2)
    ask = run.rounds.ask(3, run.params, [1])
    reply = run.client(3, ask, 0).train(run.halves["train"])  # type: ignore[arg-type]
    for name in run.params:
        derived = -ask.shared[f"control/{name}"] - reply.tensors[f"update/{name}"] / (4 * 0.1)
        torch.testing.assert_close(reply.tensors[f"control/{name}"], derived, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lost", [0.0, 0.2])
@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_drift_is_corrected_to_the_pooled_optimum_of_unlike_clients(name: str, lost: float) -> None:
    shards, update = unlike(6, examples=3), SGD | {"learning_rate": 0.2}
    options = {"alpha": 0.5} if name == "feddyn" else {}
    run = Federation(name, options, shards, 3, update=update, lost=lost).run(80)
    assert float((run.models()[0] - optimum(shards)).norm()) < 1e-2
    plain = Federation("fedavg", {}, shards, 3, update=update, lost=lost).run(20)
    assert float((plain.models()[0] - optimum(shards)).norm()) > 1


def test_feddyns_first_average_is_fedproxs_and_its_step_is_longer() -> None:
    dyn = Federation("feddyn", {"alpha": 0.7}, unlike(6), 4, update=SGD).run(1)
    prox = Federation("fedprox", {"mu": 0.7}, unlike(6), 4, update=SGD).run(1)
    start, average = flat(dyn.task.init(0)), dyn.models()[0]
    torch.testing.assert_close(average, flat(prox.params), rtol=0, atol=1e-14)
    torch.testing.assert_close(flat(dyn.params) - start, (1 + 4 / 6) * (average - start), rtol=0, atol=1e-12)


def test_feddyns_server_keeps_the_mean_of_what_clients_keep() -> None:
    run = Federation("feddyn", {}, unlike(6), 4, update=SGD, lost=0.2).run(9)
    for name in run.params:
        zero = torch.zeros_like(run.params[name])
        kept = torch.stack([run.states.get(i, {}).get(f"dual/{name}", zero) for i in range(6)])
        torch.testing.assert_close(run.rounds.state[f"dual/{name}"], kept.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fedsgd_is_central_descent_on_the_pooled_loss(optimizer: str) -> None:
    shards = [shard.take(torch.arange(n)) for shard, n in zip(unlike(4, examples=7), (1, 3, 5, 7), strict=True)]
    run = Federation("fedsgd", {"optimizer": optimizer}, shards, 4, batch_size=2).run(5)
    w = torch.nn.Parameter(flat(run.task.init(0)).clone())
    a, b = (torch.cat([shard.x[name] for shard in shards]) for name in ("a", "b"))
    central = torch.optim.SGD([w], lr=0.1) if optimizer == "sgd" else torch.optim.Adam([w], lr=0.1)
    for _ in range(5):
        central.zero_grad()
        (0.5 * (a * (w - b) ** 2).sum(1)).mean().backward()
        central.step()
    torch.testing.assert_close(flat(run.params), w.detach(), rtol=0, atol=1e-12)
