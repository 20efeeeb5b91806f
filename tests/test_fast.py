"""`--fast` measures, says what it chose, and writes it down."""

import logging
from pathlib import Path

import pytest

import fedjourney
from fedjourney import config, fast
from fedjourney.fast import CANDIDATES


@pytest.mark.compile
def test_the_choice_is_measured_once_told_and_written_down(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FEDJOURNEY_CACHE", str(tmp_path / "cache"))
    experiment = config.parse(small, ["experiment.rounds=2"])
    with caplog.at_level(logging.INFO, "fedjourney"):
        first = fedjourney.run(experiment, tmp_path / "a", fast=True)
        again = fedjourney.run(experiment, tmp_path / "b", fast=True)
    assert caplog.text.count("measuring") == 1
    assert caplog.text.count("lanes = ") == 2
    assert again.digest == first.digest
    written = fedjourney.load(first.folder / "experiment.toml")
    assert (written["numerics"]["lanes"], written["numerics"]["compile"]) in CANDIDATES
    assert fedjourney.run(written, tmp_path / "c").digest == first.digest


@pytest.mark.compile
def test_clients_that_take_no_steps_have_nothing_to_choose(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDJOURNEY_CACHE", str(tmp_path / "cache"))
    overrides = ("strategy.name=open_es", "strategy.population=8", "experiment.rounds=1")
    result = fedjourney.run(config.parse(small, overrides), tmp_path / "a", fast=True)
    assert fedjourney.load(result.folder / "experiment.toml")["numerics"]["lanes"] == 1


def test_a_measurement_holds_for_the_code_that_was_measured(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = config.parse(small)
    before = fast._key(experiment)
    assert fast._key(experiment) == before
    monkeypatch.setattr(fast, "STEPPED", fast.STEPPED[1:])  # as if one of the files were another
    assert fast._key(experiment) != before
