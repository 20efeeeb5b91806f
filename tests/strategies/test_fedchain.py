"""FedChain: its halves, the selection between them, and where it ends that averaging does not reach."""

import pytest
import torch
from quadratic import Federation, flat, optimum, unlike

from fedjourney.strategies import Ask


def chain(rate: float = 0.1, **options: object) -> Federation:
    return Federation("fedchain", {"switch": 3, **options}, unlike(6), 6, update={"name": "sgd", "learning_rate": rate})


def test_it_is_fedavg_and_then_fedsgd_bit_for_bit() -> None:
    averaged, run = Federation("fedavg", {}, unlike(6), 6).run(3), chain(learning_rate=0.3).run(3)
    assert torch.equal(flat(run.params), flat(averaged.params))
    after = Federation("fedsgd", {"learning_rate": 0.3}, unlike(6), 6)
    after.params = averaged.params
    for number in (4, 5):
        run.step(number)
        after.step(number)
    assert torch.equal(flat(run.params), flat(after.params))


@pytest.mark.parametrize("optimizer", ["accelerated", "adam"])
def test_its_second_half_is_torchs(optimizer: str) -> None:
    run = chain(learning_rate=0.05, optimizer=optimizer).run(3)
    shards, weight = run.shards, flat(run.params).clone().requires_grad_()
    kinds = {"accelerated": lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9, nesterov=True)}
    reference = kinds.get(optimizer, lambda w: torch.optim.Adam(w, lr=0.05))([weight])
    for number in range(4, 9):
        run.step(number)
        weight.grad = torch.stack([s.x["a"][0] * (weight.detach() - s.x["b"][0]) for s in shards]).mean(0)
        reference.step()
    torch.testing.assert_close(flat(run.params), weight.detach(), rtol=0, atol=1e-6)  # Adam's epsilon


def test_averaging_that_made_it_worse_is_undone() -> None:
    run = chain(rate=3.0)  # every local step overshoots
    start = flat(run.params)
    assert not torch.equal(flat(run.run(2).params), start)
    run.step(3)
    assert torch.equal(flat(run.params), start)
    assert {*run.rounds.state} == {"selected"}


def test_a_selection_that_nobody_answers_is_made_again_a_round_later() -> None:
    run = chain().run(2)
    ask = run.rounds.ask(3, run.params, list(range(6)))
    assert ask.work == "train"
    assert isinstance(run.rounds.tell(3, run.params, run.exchange(3, ask, {})), Ask)  # and then no reply counts
    assert run.rounds.ask(4, run.params, list(range(6))).work == "train"
    run.step(4)
    assert run.rounds.ask(5, run.params, list(range(6))).work == "gradient"


def test_it_reaches_the_optimum_that_averaging_stalls_before() -> None:
    def gap(run: Federation) -> float:
        return float((flat(run.params) - optimum(run.shards)).norm())

    update = {"name": "sgd", "learning_rate": 0.3, "epochs": 3}
    runs = {
        name: Federation(name, options, unlike(6), 6, update=update).run(60)
        for name, options in (("fedavg", {}), ("fedchain", {"switch": 5, "learning_rate": 0.8}))
    }
    assert gap(runs["fedavg"]) > 0.01
    assert gap(runs["fedchain"]) < 1e-9
