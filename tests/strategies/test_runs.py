"""Strategies in whole runs: few clients, no clients, many clients, lanes, a stop and a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedjourney
from fedjourney import config
from fedjourney.errors import ConfigError

KINDS = {  # one of each way to remember and to fold
    "fedper": 'personal = ["3.*"]\n',
    "local_only": "",
    "median": "",
    "qfedavg": "",
    "scaffold": "",
}


def text(small: str, name: str, cohort: int = 4, update: str = "sgd", rounds: int = 2) -> str:
    few = small.replace("cohort = 4", f"cohort = {cohort}\nevaluate_every = 0").replace(
        "rounds = 4", f"rounds = {rounds}"
    )
    few += '[task]\nname = "classification"\nbatch_size = 50\n'
    return f'{few}[update]\nname = "{update}"\n[strategy]\nname = "{name}"\n{KINDS.get(name, "")}'


@pytest.mark.parametrize("name", KINDS)
def test_a_cohort_of_one_and_rounds_without_a_reply(name: str, small: str, tmp_path: Path) -> None:
    one = fedjourney.run(config.parse(text(small, name, cohort=1)), tmp_path / "one")
    assert [row["clients"]["answered"] for row in one.rounds[1:]] == [1, 1]
    assert all(torch.isfinite(tensor).all() for tensor in one.parameters.values())
    none = fedjourney.run(config.parse(text(small, name, update="faulty:always_raising")), tmp_path / "none")
    assert [row["clients"]["counted"] for row in none.rounds[1:]] == [False, False]
    assert none.rounds[0]["test"] == none.rounds[-1]["test"]


def test_a_run_that_stopped_goes_on_to_the_same_bits(small: str, tmp_path: Path) -> None:
    experiment = config.parse(text(small, "scaffold", rounds=3) + '[[transform]]\nname = "topk"\n')
    whole = fedjourney.run(experiment, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise StopError

    with pytest.raises(StopError):
        fedjourney.run(experiment, tmp_path / "stopped", watch=stop)
    assert fedjourney.resume(tmp_path / "stopped").digest == whole.digest


@pytest.mark.parametrize("name", ["scaffold", "fedsgd", "apfl", "local_only"])
def test_lanes_change_nothing_but_rounding(
    name: str, small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = text(small, name) + '[numerics]\ndtype = "float64"\n'
    if name == "fedsgd":
        said = said.replace('[update]\nname = "sgd"\n', "")
    loop = fedjourney.run(config.parse(said), tmp_path / "a")
    lanes = fedjourney.run(config.parse(said + "lanes = 3\n"), tmp_path / "b")
    assert "falling back" not in caplog.text
    for theirs, ours in zip(lanes.parameters.values(), loop.parameters.values(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-9)
    for theirs, ours in zip(
        lanes.rounds[-1]["evaluation"].values(), loop.rounds[-1]["evaluation"].values(), strict=True
    ):
        assert theirs["mean"] == pytest.approx(ours["mean"], abs=1e-9)


def test_a_local_worker_serves_who_sends_nothing(small: str, tmp_path: Path) -> None:
    said = text(small, "local_only").replace('name = "serial"', 'name = "local"\nworkers = 1')
    serial = fedjourney.run(config.parse(text(small, "local_only")), tmp_path / "a")
    assert fedjourney.run(config.parse(said), tmp_path / "b").digest == serial.digest


def test_bad_settings_are_refused_before_a_folder_is_made(small: str, tmp_path: Path) -> None:
    for line, said in (
        ('name = "krum"\nbyzantine = 1\n', "4 < 2 x 1 + 3 = 5"),
        ('name = "fedper"\npersonal = ["head*"]\n', '"head*" matches no parameter'),
        ('name = "fedrep"\n', "expected a value, got none"),
        ('name = "scaffold"\n', "needs plain gradient steps"),
    ):
        update = '[update]\nname = "sgd"\nmomentum = 0.9\n'
        with pytest.raises(ConfigError) as error:
            fedjourney.run(config.parse(f"{small}{update}[strategy]\n{line}"), tmp_path / "run")
        assert said in str(error.value)
        assert not (tmp_path / "run").exists()


def test_scaffold_learns_with_ten_of_a_hundred_clients(small: str, tmp_path: Path) -> None:
    said = small.replace("cohort = 4", "cohort = 0.1\nevaluate_every = 0\nholdout = 0.0").replace(
        "rounds = 4", "rounds = 20"
    )
    said = said.replace("clients = 8", "clients = 100").replace("alpha = 0.5", "alpha = 1.0")
    update = '[update]\nname = "sgd"\nlearning_rate = 0.3\nepochs = 3\n[strategy]\nname = "scaffold"\n'
    result = fedjourney.run(config.parse(said + update), tmp_path / "run")
    assert result.rounds[-1]["test"]["accuracy"] > 0.7  # chance is 0.1, which two public benchmarks report for theirs


def test_a_strategy_without_options_needs_no_init(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole_step.py").write_text(
        "from fedjourney.strategies import Rounds, update_of\n"
        "from fedjourney.tensors import add_scaled\n\n\n"
        "class WholeStep(Rounds):\n"
        "    def halves(self, task, update):\n"
        '        return {"train": update}\n\n'
        "    def tell(self, round, params, cohort):\n"
        "        return add_scaled(params, update_of(cohort.tensors), 1.0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = fedjourney.run(config.parse(text(small, "whole_step:WholeStep")), tmp_path / "a")
    assert mine.digest == fedjourney.run(config.parse(text(small, "fedavg")), tmp_path / "b").digest
