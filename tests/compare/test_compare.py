"""A whole comparison: run, gone on with, killed, told."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process import command, environment

import fedjourney
from fedjourney.comparison.cells import Cell
from fedjourney.errors import ConfigError, RunError

GLYPHS = Path(__file__).parents[2] / "configs" / "glyphs-prototypes.toml"
SOME = 20  # rounds between two kills
BESIDE = """
[arms.alone]
beside = "floor"
metric = "personal/accuracy"
experiment = { holdout = 0.2 }
strategy = { name = "local_only" }
[arms.pooled]
beside = "ceiling"
strategy = { name = "centralized" }
"""
CLAIM = '\n[[claim]]\nname = "twins"\narms = ["evolution", "sketched"]\ndirection = "equal"\nmargin = 0.9\n'


def numbers(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_arms_run_once_are_registered_and_told(tmp_path: Path, file: Path) -> None:
    text = file.read_text() + CLAIM
    file.write_text(text[: text.index("[scenarios.skew")] + text[text.index("[arms.averaging]") :])
    out, seen = tmp_path / "out", []

    def watch(stage: str, cell: Cell, said: dict[str, Any], done: int, count: int) -> None:
        if "done" in said:
            seen.append((stage, cell.arm, cell.seed, done, count))

    found = fedjourney.compare(file, out, workers=0, watch=watch)
    assert [one[3:] for one in seen] == [(number, 6) for number in range(1, 7)]
    told = numbers(out)
    assert told["status"] == "registered, a preview"
    assert told["claims"][0]["registered"]
    starts = {trace.start for trace in found.results.traces.values() if trace.cell.seed == 0}
    assert len(starts) == 1
    at = {next(iter(one["budget"])): one["arms"] for one in told["budgets"]}
    rows = [json.loads(line) for line in (out / "cells/iid/averaging/default/1/rounds.jsonl").read_text().splitlines()]
    costs = [(row["bytes_up"] + row["bytes_down"]) / 3 for row in rows]
    within = [row["test"]["accuracy"] for k, row in enumerate(rows) if k and sum(costs[: k + 1]) <= 12_000]
    assert at["bytes"]["averaging"]["values"][1] == pytest.approx(sum(within[-5:]) / len(within[-5:]))
    assert at["rounds"]["evolution"]["paid"]["forwards"] == 3 * 8 * 20
    assert at["rounds"]["sketched"]["paid"]["gradients"] == 3 * 3 * 20
    page = found.page.read_text()
    assert "twins" in page
    assert "Which rules this result does not meet" in page

    seen.clear()
    file.write_text(file.read_text() + BESIDE)
    more = fedjourney.compare(file, out, workers=0, watch=watch)
    assert {one[1] for one in seen} == {"alone", "pooled"}  # and what was registered before them still is
    assert (more.summary["status"], more.summary["claims"]) == (told["status"], told["claims"])
    for before, after in zip(told["budgets"], more.summary["budgets"], strict=True):
        assert after["differences"] == before["differences"]
        assert after["arms"] | before["arms"] == after["arms"]
    rows = [json.loads(line) for line in (out / "cells/iid/alone/default/1/rounds.jsonl").read_text().splitlines()]
    own = [row["evaluation"]["personal/accuracy"]["mean"] for row in rows[1:]]
    assert after["arms"]["alone"]["values"][1] == pytest.approx(sum(own) / 3)
    assert after["arms"]["pooled"]["paid"]["bytes"] == 0
    assert not any(
        "alone" in line or "pooled" in line for line in more.summary["rules_not_met"] if "Tuning" not in line
    )

    seen.clear()
    file.write_text(file.read_text().replace("margin = 0.9", "margin = 0.8"))
    again = fedjourney.compare(file, out, workers=0, watch=watch)
    assert seen == []  # nothing is computed again, and a claim that was changed since is not registered
    assert again.summary["budgets"] == more.summary["budgets"]
    assert again.summary["status"] == "exploratory, a preview"

    file.write_text(file.read_text().replace("learning_rate = 0.2", "learning_rate = 0.3"))
    with pytest.raises(RunError, match="the file has changed since"):
        fedjourney.compare(file, out, workers=0)
    with pytest.raises(RunError, match="got another"):
        fedjourney.compare(file, out.parent, workers=0)


def test_who_guesses_in_an_episode_chooses_between_its_classes_alone(tmp_path: Path) -> None:
    file = tmp_path / "few.toml"
    file.write_text(
        '[comparison]\nname = "few"\nseeds = [0]\n[budget]\nrounds = [1]\n[arms.episodes]\n'
        f'[base]\nconfig = "{GLYPHS}"\nexperiment = {{ rounds = 1, evaluate_every = 1, cohort = 1 }}\n'
    )
    found = fedjourney.compare(file, tmp_path / "out", workers=0)
    assert [trace.chance for trace in found.results.traces.values()] == [1 / 5]
    assert f"fedjourney compare {file}" in found.page.read_text()


def test_settings_of_an_earlier_comparison_are_judged_on_other_seeds(tmp_path: Path, file: Path) -> None:
    text = file.read_text()
    tuned = '[tuning]\ntrials = 2\nseeds = [100]\n[arms.averaging.tune]\n"update.learning_rate" = [0.01, 2.0]\n'
    tuned += "[arms.averaging.update]\nlearning_rate = 0.0001\n"  # so that a trial wins
    text = text[: text.index("[scenarios.skew")] + text[text.index("[arms.averaging]") :] + CLAIM
    file.write_text(text.replace("[arms.averaging]\n", tuned))
    first = fedjourney.compare(file, tmp_path / "first", workers=0)
    overrides = ["comparison.seeds=[5, 6, 7]", 'comparison.only=["averaging"]', 'tuning.from="first/results.json"']
    seen: list[tuple[str, str, int]] = []
    again = fedjourney.compare(
        file, tmp_path / "again", overrides=overrides, workers=0,
        watch=lambda stage, cell, said, done, count: seen.append((stage, cell.arm, cell.seed)),
    )  # fmt: skip
    assert {stage for stage, *_ in seen} == {"evaluation"}
    assert {(arm, seed) for _, arm, seed in seen} == {("averaging", 5), ("averaging", 6), ("averaging", 7)}
    assert again.summary["claims"] == []  # the one there is names others
    for before, after in zip(first.summary["budgets"], again.summary["budgets"], strict=True):
        assert set(after["arms"]) == {"averaging"}
        for key in ("setting", "values_set"):
            assert after["arms"]["averaging"][key] == before["arms"]["averaging"][key]
    assert any("taken from" in rule for rule in again.summary["rules_not_met"])
    assert "Nothing was tuned here" in again.page.read_text()

    file.write_text(file.read_text().replace("[0.01, 2.0]", "[0.02, 2.0]"))
    changed = [*overrides[:2], overrides[2].replace("first", str(tmp_path / "first"))]
    assert "trial" in first.summary["budgets"][0]["arms"]["averaging"]["setting"]
    with pytest.raises(ConfigError, match="its ranges are others"):
        fedjourney.compare(file, tmp_path / "third", overrides=changed, workers=0)
    for wrong, said in (("little.toml", "got .*little.toml"), ("nowhere.json", "FileNotFoundError")):
        with pytest.raises(ConfigError, match=said):
            fedjourney.compare(
                file, tmp_path / "third", overrides=[*overrides[:2], f'tuning.from="{wrong}"'], workers=0
            )
    assert not (tmp_path / "third").exists()


@pytest.mark.kill
def test_a_killed_comparison_goes_on_to_the_same_numbers(tmp_path: Path, text: str) -> None:
    file = tmp_path / "long.toml"
    tuned = '[tuning]\ntrials = 1\nseeds = [100]\n[arms.averaging.tune]\n"update.learning_rate" = [0.05, 0.5]\n'
    file.write_text(text.replace("rounds = [3]", "rounds = [12]").replace("[arms.averaging]\n", tuned))
    reference = fedjourney.compare(file, tmp_path / "reference", workers=0)
    out = tmp_path / "killed"
    arguments = ["compare", file, "--out", out, "--workers", "2", "--quiet"]
    for number in range(3):
        process = subprocess.Popen(command(arguments), **environment({}))
        before, deadline = _lines(out), time.monotonic() + 90
        while _lines(out) < before + SOME and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)  # some rounds later, in the middle of a run
        assert process.poll() is None, "it ended before it was killed"
        assert _lines(out) >= before + SOME, f"kill {number}: it has not got far enough"
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait_until_free(out)
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("cell.json")}
    found = fedjourney.compare(file, out, workers=0)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert found.summary["budgets"] == reference.summary["budgets"]
    for path in (tmp_path / "reference").rglob("rounds.jsonl"):
        mine = (out / path.relative_to(tmp_path / "reference")).read_text().splitlines()
        theirs = path.read_text().splitlines()
        assert [_untimed(line) for line in mine] == [_untimed(line) for line in theirs]


def _lines(out: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in out.rglob("rounds.jsonl"))


def _wait_until_free(out: Path) -> None:
    """Workers end with their parent's pipe: soon nobody writes."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = _lines(out)
        time.sleep(0.5)
        if _lines(out) == before:
            return
    raise AssertionError("workers outlive the process that started them")


def _untimed(line: str) -> dict[str, Any]:
    return json.loads(line) | {"seconds": 0}


@pytest.mark.kill
def test_the_command_on_workers_says_what_it_did(
    tmp_path: Path, file: Path, text: str, fedjourney_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    file.write_text(text[: text.index("[scenarios.skew")] + text[text.index("[arms.averaging]") :])
    done = fedjourney_command(["compare", file, "--out", tmp_path / "out", "--workers", "2", "--json"])
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert json.loads(last) == numbers(tmp_path / "out")
    assert any(line.startswith("  6/6") for line in lines)
    assert "iid, 12 kB a client" in lines
    checked = fedjourney_command(["compare", file, "--check"])
    assert checked.stdout.splitlines()[0].endswith("at least 6 runs")


@pytest.mark.kill
def test_a_process_that_dies_stops_all_in_words_and_the_next_try_goes_on(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    file, out = tmp_path / "dying.toml", tmp_path / "out"
    dying = f'[arms.averaging.update]\nname = "faulty:killing_once"\nmarker = "{tmp_path / "marker"}"\n'
    file.write_text(text.replace("[arms.averaging]\n", dying))
    with pytest.raises(RunError, match="averaging seed 0: its process ended with -9"):
        fedjourney.compare(file, out, workers=1)
    assert fedjourney.compare(file, out, workers=1).summary["status"] == "exploratory, a preview"
