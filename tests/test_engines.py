"""Engines decide how clients are computed, never what."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet

import fedjourney
from fedjourney import config

HERE = Path(__file__).parent


def run(text: str, out: Path, *overrides: str) -> fedjourney.Result:
    return fedjourney.run(config.parse(text, overrides), out)


def test_every_number_of_workers_gives_serials_digest(small: str, tmp_path: Path) -> None:
    reference = run(small, tmp_path / "serial")
    for workers in (1, 2, 3):
        other = run(small, tmp_path / f"local{workers}", "engine.name=local", f"engine.workers={workers}")
        assert other.digest == reference.digest
        for theirs, ours in zip(other.rounds, reference.rounds, strict=True):
            assert {**theirs, "seconds": 0} == {**ours, "seconds": 0}


def test_another_seed_gives_another_digest(small: str, tmp_path: Path) -> None:
    digests = {run(small, tmp_path / str(seed), f"experiment.seed={seed}").digest for seed in (0, 1)}
    assert len(digests) == 2


def test_two_runs_in_one_process_do_not_disturb_each_other(small: str, tmp_path: Path) -> None:
    first = run(small, tmp_path / "a")
    run(small, tmp_path / "b", "experiment.seed=5", "experiment.rounds=2")
    assert run(small, tmp_path / "c").digest == first.digest


def test_evolution_sends_fitness_numbers_only(small: str, tmp_path: Path) -> None:
    overrides = ("strategy.name=open_es", "strategy.population=16", "task.batch_size=20")
    serial = run(small, tmp_path / "a", *overrides)
    local = run(small, tmp_path / "b", *overrides, "engine.name=local", "engine.workers=2")
    assert local.digest == serial.digest
    row = serial.rounds[-1]
    assert row["clients"]["answered"] == 4
    assert row["bytes_up"] < 4 * (16 * 4 + 200)  # 16 floats a client, and a header
    assert row["bytes_down"] > 4 * 4 * 1000  # the model, to four clients


@pytest.mark.parametrize(
    ("fault", "kind"), [("raising", "raised"), ("not_finite", "not finite"), ("wrong_shape", "malformed")]
)
def test_a_client_that_fails_costs_its_reply_not_the_run(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    text = small + f'[update]\nname = "faulty:{fault}"\n'
    serial = run(text, tmp_path / "a")
    failed = [failure for row in serial.rounds for failure in row["clients"]["failed"]]
    assert failed
    assert {failure["kind"] for failure in failed} == {kind}
    assert sum(row["clients"]["answered"] for row in serial.rounds) + len(failed) == 16
    assert run(text, tmp_path / "b", "engine.name=local", "engine.workers=2").digest == serial.digest


@pytest.mark.parametrize("strategy", ["fedavg", "open_es"])
def test_numbers_that_are_not_finite_name_the_setting_that_moves_the_parameters(
    small: str, tmp_path: Path, strategy: str
) -> None:
    far = "update.learning_rate=1e38" if strategy == "fedavg" else "strategy.sigma=1e38"
    found = run(small, tmp_path / "a", f"strategy.name={strategy}", far)
    said = {failure["message"] for row in found.rounds for failure in row["clients"]["failed"]}
    assert any(("[update]" if strategy == "fedavg" else "[strategy] learning_rate, or sigma") in text for text in said)


def test_client_state_counts_once_per_accepted_reply_and_survives_a_resume(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    text = small + '[update]\nname = "faulty:counting"\n'
    whole = run(text, tmp_path / "whole")
    seen: dict[int, int] = {}
    for row in parquet.read_table(whole.folder / "clients.parquet").to_pylist():
        seen[row["client"]] = seen.get(row["client"], 0) + 1
        assert row["count"] == seen[row["client"]]
    assert max(seen.values()) > 1

    class StopError(Exception):
        pass

    def stop(row: dict[str, object]) -> None:
        if row["round"] == 2:
            raise StopError

    with pytest.raises(StopError):
        fedjourney.run(config.parse(text), tmp_path / "stopped", watch=stop)
    assert fedjourney.resume(tmp_path / "stopped").digest == whole.digest
    local = run(text, tmp_path / "local", "engine.name=local", "engine.workers=2")
    assert local.digest == whole.digest


def test_a_round_without_enough_replies_keeps_the_parameters(small: str, tmp_path: Path) -> None:
    result = run(small + '[update]\nname = "faulty:always_raising"\n', tmp_path / "a")
    assert [row["clients"]["counted"] for row in result.rounds[1:]] == [False] * 4
    assert result.rounds[0]["test"] == result.rounds[-1]["test"]


@pytest.mark.kill
def test_a_killed_worker_is_replaced_and_its_client_asked_again(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    (tmp_path / "done").touch()
    text = small + '[update]\nname = "faulty:killing_once"\nmarker = "{}"\n'
    untouched = run(text.format(tmp_path / "done"), tmp_path / "a")
    text = text.format(tmp_path / "once")
    killed = run(text, tmp_path / "b", "engine.name=local", "engine.workers=2")
    assert (tmp_path / "once").exists()
    assert killed.digest == untouched.digest


@pytest.mark.kill
def test_a_worker_killed_while_it_starts_is_replaced(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fatal.py").write_text(f"""
import os, pathlib, signal, sys
from faulty import counting
marker = pathlib.Path({str(tmp_path / "killed")!r})
if sys.modules["__main__"].__spec__.name == "fedjourney.engines._worker" and not marker.exists():
    marker.touch()
    os.kill(os.getpid(), signal.SIGKILL)
""")
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.syspath_prepend(tmp_path)
    text = small + '[update]\nname = "fatal:counting"\n'
    serial = run(text, tmp_path / "a", "experiment.rounds=1")
    local = run(text, tmp_path / "b", "engine.name=local", "engine.workers=1", "experiment.rounds=1")
    assert (tmp_path / "killed").exists()
    assert local.digest == serial.digest


@pytest.mark.kill
def test_a_client_that_never_returns_is_cut_off_at_the_deadline(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    text = small + '[update]\nname = "faulty:never_returning"\n'
    result = run(text, tmp_path / "a", "engine.name=local", "experiment.timeout=6", "experiment.rounds=1")
    clients = result.rounds[-1]["clients"]
    assert {failure["kind"] for failure in clients["failed"]} == {"timeout"}
    assert clients["answered"] + len(clients["failed"]) == 4


@pytest.mark.kill
def test_a_client_that_takes_too_much_memory_costs_its_reply(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    text = small + '[update]\nname = "faulty:greedy"\n'
    result = run(text, tmp_path / "a", "engine.name=local", "engine.workers=2", "engine.memory=3000")
    failed = [failure for row in result.rounds for failure in row["clients"]["failed"]]
    assert failed
    assert all("allocate memory" in failure["message"] for failure in failed)
    assert sum(row["clients"]["answered"] for row in result.rounds) + len(failed) == 16


def test_a_run_folder_holds_what_the_readme_says(small: str, tmp_path: Path) -> None:
    result = run(small, tmp_path / "a")
    names = {path.name for path in result.folder.iterdir()}
    assert {"experiment.toml", "rounds.jsonl", "clients.parquet", "partition.json", "report.html"} <= names
    again = fedjourney.run(fedjourney.load(result.folder / "experiment.toml"), tmp_path / "b")
    assert again.digest == result.digest
    assert json.loads((result.folder / "run.json").read_text())["digest"] == result.digest


def test_a_million_clients_clients_that_never_train_and_lanes(small: str, tmp_path: Path) -> None:
    many = small.replace('"dirichlet"', '"virtual"').replace("clients = 8", "clients = 1_000_000")
    many = many.replace("alpha = 0.5", "examples = 30")
    owners = small.replace('"dirichlet"', '"natural"').replace("clients = 8", 'by = "label"').replace("alpha = 0.5", "")
    overrides = ("experiment.rounds=2", "numerics.lanes=3")
    million = run(many, tmp_path / "million", *overrides)
    assert million.rounds[-1]["clients"]["answered"] == 4
    serial = run(owners, tmp_path / "serial", *overrides)
    local = run(owners, tmp_path / "local", *overrides, "engine.name=local", "engine.workers=2")
    assert local.digest == serial.digest
    assert 0 <= serial.rounds[-1]["unseen"]["accuracy"]["mean"] <= 1
    held = [row["client"] for row in parquet.read_table(serial.folder / "clients.parquet").to_pylist()]
    assert max(held) < 9  # ten digits, a client each; the last one never trains
