"""Whatever one client does costs its reply: never the run, never a neighbour's bits, on every engine alike."""

import math
import os
from pathlib import Path

import pytest
import torch

import fedjourney
from fedjourney import config
from fedjourney.exchange import finite
from fedjourney.tensors import subtract
from tests.faulty import MISBEHAVIOUR

HERE = Path(__file__).parent
LOCAL = ("engine.name=local", "engine.workers=2")


def run(text: str, out: Path, *overrides: str) -> fedjourney.Result:
    return fedjourney.run(config.parse(text, ["experiment.rounds=2", *overrides]), out)


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_misbehaviour_costs_one_reply(small: str, tmp_path: Path, how: str) -> None:
    text = f'{small}[update]\nname = "faulty:misbehaving"\nhow = "{how}"\n'
    plain = run(text, tmp_path / "a")
    failed = [failure for row in plain.rounds for failure in row["clients"]["failed"]]
    assert failed
    assert {failure["kind"] for failure in failed} <= {"raised", "malformed"}
    assert sum(row["clients"]["answered"] for row in plain.rounds) + len(failed) == 8
    lanes = run(text, tmp_path / "b", "numerics.lanes=3")
    for alone, together in zip(plain.rounds, lanes.rounds, strict=True):
        assert {f["client"] for f in alone["clients"]["failed"]} == {f["client"] for f in together["clients"]["failed"]}


def test_an_update_that_only_torch_does_not_see_costs_as_much(small: str, tmp_path: Path) -> None:
    seen, unseen = (
        run(f'{small}[update]\nname = "faulty:meddling"\nunseen = {unseen}\n', tmp_path / unseen, "experiment.rounds=1")
        for unseen in ("false", "true")
    )
    assert seen.digest == unseen.digest


@pytest.mark.kill  # processes
@pytest.mark.parametrize(
    ("update", "option"), [("misbehaving", 'how = "without_gradients"'), ("meddling", "unseen = true")]
)
def test_every_engine_agrees_on_what_it_cost(small: str, tmp_path: Path, update: str, option: str) -> None:
    text = f'{small}[update]\nname = "faulty:{update}"\n{option}\n'
    before = os.getcwd(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision()
    serial = run(text, tmp_path / "a")
    assert (os.getcwd(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision()) == before
    assert 0 < sum(len(row["clients"]["failed"]) for row in serial.rounds) < 8
    assert run(text, tmp_path / "b", *LOCAL).digest == serial.digest


def test_a_sum_that_overflows_keeps_the_parameters_and_says_so(small: str, tmp_path: Path) -> None:
    result = run(small + '[update]\nname = "faulty:huge"\n', tmp_path / "a")
    assert any("too large" in row["clients"].get("reason", "") for row in result.rounds)
    assert all(tensor.isfinite().all() for tensor in result.parameters.values())


def test_a_step_to_infinity_keeps_the_parameters_and_says_so(small: str, tmp_path: Path) -> None:
    result = run(small + '[strategy]\nname = "fedavg"\nserver_learning_rate = 1e300\n', tmp_path / "a")
    assert {row["clients"].get("reason") for row in result.rounds[1:]} == {"the step gave NaN or infinity"}
    assert all(tensor.isfinite().all() for tensor in result.parameters.values())


@pytest.mark.parametrize("size", [3, 1 << 16])
def test_finite_is_said_of_every_number_and_of_sums_that_overflow(size: int) -> None:
    sound = {
        "a": torch.ones(size),
        "b": torch.ones(2, 2, dtype=torch.float64),
        "none": torch.ones(0),
        "whole": torch.ones(3, dtype=torch.int64),
    }
    assert finite(sound, {"loss": 1.0})
    huge = {"a": torch.full((size,), 3e38), "b": torch.full((2,), 3e38)}
    assert finite(huge, {})  # sums are infinite, and none of the numbers
    assert not finite(huge | {"c": torch.tensor([math.nan])}, {})
    assert not finite(sound, {"loss": math.inf})
    for number in (math.nan, math.inf, -math.inf):
        bad = torch.ones(size)
        bad[-1] = number
        assert not finite(sound | {"c": bad}, {})


def test_a_difference_is_taken_name_by_name_in_lanes_and_outside() -> None:
    left, right = {"a": torch.randn(4, 3), "b": torch.randn(4)}, {"b": torch.randn(4)}
    assert list(subtract(left, right)) == ["b"]
    assert torch.equal(subtract(left, right)["b"], left["b"] - right["b"])
    assert subtract(left, {}) == {}
    lanes = torch.func.vmap(subtract)(left, right)
    assert torch.equal(lanes["b"], left["b"] - right["b"])
