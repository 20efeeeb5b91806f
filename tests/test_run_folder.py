"""A run folder has one writer, and what is damaged in it is refused in words."""

from pathlib import Path

import pytest

import fedjourney
from fedjourney import config, run_folder
from fedjourney.errors import RunError


class StopError(Exception):
    pass


def stop(row: dict[str, object]) -> None:
    if row["round"] == 2:
        raise StopError


@pytest.fixture
def stopped(small: str, tmp_path: Path) -> Path:
    with pytest.raises(StopError):
        fedjourney.run(config.parse(small), tmp_path / "run", watch=stop)
    return tmp_path / "run"


def test_only_one_process_may_go_on_with_a_run(stopped: Path) -> None:
    with run_folder.locked(stopped), pytest.raises(RunError, match="another process"):
        fedjourney.resume(stopped)
    fedjourney.resume(stopped)


def test_what_a_kill_left_of_a_folder_may_be_used(small: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "partition.json").write_text("{")
    fedjourney.run(config.parse(small, ["experiment.rounds=1"]), tmp_path / "run")


def test_a_flipped_byte_in_the_checkpoint_is_refused(stopped: Path) -> None:
    path = stopped / "checkpoint.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="expected a checkpoint of ours"):
        fedjourney.resume(stopped)


def test_the_page_of_a_finished_run_says_nothing_else(small: str, tmp_path: Path) -> None:
    page = (fedjourney.run(config.parse(small), tmp_path / "run").folder / "report.html").read_text()
    assert "not finished" not in page


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"", b"{}\n"])
def test_a_finished_run_whose_rounds_are_damaged_says_so(small: str, tmp_path: Path, damage: bytes) -> None:
    folder = fedjourney.run(config.parse(small, ["experiment.rounds=1"]), tmp_path / "run").folder
    (folder / "rounds.jsonl").write_bytes(damage)
    with pytest.raises(RunError, match="Restore it"):
        fedjourney.resume(folder)


def test_an_engine_that_cannot_start_leaves_no_folder(small: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no Ray cluster"):
        fedjourney.run(config.parse(small, ["engine.name=ray", "engine.address=127.0.0.1:1"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_report_that_a_kill_prevented_is_written_later(small: str, tmp_path: Path) -> None:
    run = fedjourney.run(config.parse(small, ["experiment.rounds=1"]), tmp_path / "run")
    (run.folder / "report.html").unlink()
    assert fedjourney.resume(run.folder).digest == run.digest
    assert (run.folder / "report.html").exists()


def test_a_damaged_line_is_named(small: str, tmp_path: Path) -> None:
    run = fedjourney.run(config.parse(small, ["experiment.rounds=1"]), tmp_path / "run")
    path = run.folder / "rounds.jsonl"
    path.write_text(path.read_text().replace("{", "(", 1))
    with pytest.raises(RunError, match=r"rounds\.jsonl:1"):
        fedjourney.resume(run.folder)


@pytest.mark.kill
def test_workers_that_cannot_start_end_the_run_in_words(small: str, tmp_path: Path) -> None:
    tight = config.parse(small, ["engine.name=local", "engine.memory=50"])
    with pytest.raises(RunError, match="worker process"):
        fedjourney.run(tight, tmp_path / "run")
