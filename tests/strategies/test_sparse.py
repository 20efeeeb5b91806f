"""Sparse both ways: what it equals, what error feedback sums to, and its bytes by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from evolution_quadratic import Federation, sampled

import fedjourney
from fedjourney import config
from fedjourney.strategies import Cohort
from fedjourney.strategies._replay import group, kept
from fedjourney.tensors import Tensors


def flat(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def lost(round: int, client: int) -> bool:
    return (round * 7 + client * 3) % 5 == 0


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_everything_sent_is_fedavg(rate: float) -> None:
    sparse = Federation("sparse", {"share": 1.0, "learning_rate": rate}, dtype=torch.float32, lost=lost).play(6)
    whole = Federation("fedavg", {"server_learning_rate": rate}, dtype=torch.float32, lost=lost).play(6)
    assert torch.equal(flat(sparse.params), flat(whole.params))
    assert not sparse.rounds.state["server/error"].any()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_sent_and_what_waits_sum_to_all_steps(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    federation, means = Federation("sparse", {"share": 0.25, "learning_rate": 0.3, "optimizer": optimizer}), []
    news = federation.rounds.news  # type: ignore[attr-defined]

    def watched(round: int, cohort: Cohort) -> Tensors:
        means.append(flat(cohort.tensors or {}))
        sent: Tensors = news(round, cohort)
        assert sent["values"].shape == sent["places"].shape == (2,)  # a quarter of 8
        return sent

    monkeypatch.setattr(federation.rounds, "news", watched)
    moved = flat(federation.play(10).params) - flat(federation.before[1])
    everything = 0.3 * sum(means)
    if optimizer == "adam":  # by torch's own
        weight = torch.zeros(8, dtype=torch.float64, requires_grad=True)
        reference = torch.optim.Adam([weight], lr=0.3)
        for mean in means:
            weight.grad = -mean
            reference.step()
        everything = weight.detach()
    torch.testing.assert_close(moved + federation.rounds.state["server/error"], everything, rtol=1e-6, atol=1e-9)


def test_without_error_feedback_the_rest_is_dropped() -> None:
    federation = Federation("sparse", {"share": 0.25, "error_feedback": False}).play(3)
    assert "server/error" not in federation.rounds.state
    assert int((flat(federation.params) != flat(federation.before[3])).sum()) == 2


@pytest.mark.parametrize("shapes", [{"w": (2, 3), "b": (2,)}, {"w": (20, 30), "b": (7,)}], ids=["models", "histories"])
def test_clients_make_the_steps_they_missed(shapes: dict[str, tuple[int, ...]]) -> None:
    settings: dict[str, Any] = {"clients": 8, "cohort": sampled(3, 8), "shapes": shapes, "lost": lost}
    federation = Federation("sparse", {"share": 0.05}, dtype=torch.float32, **settings).play(9)
    for client, round in federation.took_part.items():
        own = group(kept(federation.states[client]), "params/")
        assert all(torch.equal(own[name], federation.before[round][name]) for name in own)


def test_bytes_by_hand_both_ways(small: str, tmp_path: Path) -> None:
    text = small.replace("cohort = 4", "cohort = 1.0").replace("rounds = 4", "rounds = 3")
    text += '[[transform]]\nname = "topk"\nshare = 0.1\n[strategy]\nname = "sparse"\nshare = 0.05\n'
    rows = fedjourney.run(config.parse(text), tmp_path / "run").rounds
    # 64 x 16 + 16 + 16 x 10 + 10 = 1,210 parameters: 121 numbers and places go up, 61 come down
    first = '[{"start/1.weight":["float32",[16,64]],"start/1.bias":["float32",[16]],'
    first += '"start/3.weight":["float32",[10,16]],"start/3.bias":["float32",[10]]},{}]'
    nothing = 8 + len("[{},{}]")  # nothing is told to all alike
    assert rows[1]["bytes_down"] == 8 * (nothing + 8 + len(first) + 4 * 1210)
    header = '[{"rounds":["int32",[1]],"news/values":["float32",[1,61]],"news/places":["int32",[1,61]]},{}]'
    for row in rows[2:]:
        assert row["bytes_down"] == 8 * (nothing + 8 + len(header) + 4 + 8 * 61)
        up = row["bytes_up"] / 8 - 8 * 121
        assert 80 < up < 160  # names, shapes, and two metrics as text
