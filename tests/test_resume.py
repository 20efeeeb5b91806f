"""Nothing is lost: kill it anywhere, resume, and the bits are those of the run never killed."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process import command, environment

import fedjourney
from fedjourney import config, results
from fedjourney.errors import RunError
from fedjourney.results import Checkpoint

Command = Callable[..., subprocess.CompletedProcess[str]]


def records(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return [{**row, "seconds": 0} for row in rows]


@pytest.fixture
def longer(small: str, tmp_path: Path) -> Path:
    file = tmp_path / "longer.toml"
    file.write_text(small.replace("rounds = 4", "rounds = 60"))
    return file


@pytest.mark.kill
@pytest.mark.parametrize(("engine", "strategy"), [("serial", "fedavg"), ("local", "scaffold")])
def test_kill_at_random_moments_then_resume(longer: Path, tmp_path: Path, engine: str, strategy: str) -> None:
    longer.write_text(longer.read_text() + f'[strategy]\nname = "{strategy}"\n')
    reference = fedjourney.run(fedjourney.load(longer), tmp_path / "reference")
    folder, chance = tmp_path / "killed", random.Random(time.time_ns())
    kills, begun = 0, False
    while kills < 4:
        arguments = ["resume", folder] if begun else ["run", longer, "--out", folder, "--engine", engine]
        process = subprocess.Popen(command(arguments), stdout=subprocess.DEVNULL, **environment({}))
        time.sleep(chance.uniform(0.5, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        begun = (folder / "experiment.toml").exists()
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
    if not begun:
        fedjourney.run(fedjourney.load(longer), folder)
    resumed = fedjourney.resume(folder)
    assert resumed.digest == reference.digest
    assert records(folder) == records(tmp_path / "reference")


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_what_clients_kept_since_the_last_checkpoint_is_computed_again(
    small: str, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CHECKPOINT_SECONDS", 1e6)  # none between the first and the last
    whole = config.parse(small + '[strategy]\nname = "scaffold"\n', [f"engine.name={engine}"])

    def copy(row: dict[str, Any]) -> None:
        if row["round"] == 3:
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")

    digest = fedjourney.run(whole, tmp_path / "whole", watch=copy).digest
    assert Checkpoint.read(tmp_path / "cut" / "checkpoint.safetensors").round == 0
    assert {path.stem for path in (tmp_path / "cut" / "state").glob("*/*")} >= {"1", "2", "3"}
    assert fedjourney.resume(tmp_path / "cut").digest == digest
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


@pytest.mark.kill
def test_interrupt_saves_and_says_how_to_go_on(longer: Path, tmp_path: Path) -> None:
    longer.write_text(longer.read_text().replace("rounds = 60", "rounds = 2000"))
    process = subprocess.Popen(
        command(["run", longer, "--out", tmp_path / "run", "--engine", "local"]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **environment({}),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests under nohup would hand on "ignored"
    )  # fmt: skip
    assert process.stdout is not None
    while "\n" not in (line := process.stdout.readline()) or not line.strip().startswith("3 "):
        assert line, process.stderr
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"fedjourney resume {tmp_path / 'run'}" in said
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_changed_experiment_is_refused_with_the_difference(small: str, tmp_path: Path) -> None:
    fedjourney.run(config.parse(small), tmp_path / "run")
    file = tmp_path / "run" / "experiment.toml"
    file.write_text(file.read_text().replace("learning_rate = 0.1", "learning_rate = 0.2"))
    with pytest.raises(RunError, match=r"update.learning_rate: 0.1 then, 0.2 now"):
        fedjourney.resume(tmp_path / "run")


def test_other_data_are_refused(small: str, tmp_path: Path) -> None:
    import numpy as np

    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(200, 5)), chance.integers(0, 3, 200)
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    text = small.replace('name = "digits"', f'name = "arrays"\npath = "{tmp_path / "mine.npz"}"')
    text = text.replace('"dirichlet"', '"iid"').replace("alpha = 0.5", "")
    fedjourney.run(config.parse(text), tmp_path / "run")
    np.savez(tmp_path / "mine.npz", x=x + 1, y=y)
    with pytest.raises(RunError, match=r"data: .* then, .* now"):
        fedjourney.resume(tmp_path / "run")


def test_resuming_a_finished_run_changes_nothing(small: str, tmp_path: Path) -> None:
    first = fedjourney.run(config.parse(small), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert fedjourney.resume(tmp_path / "run").digest == first.digest
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a small tmpfs; needs root, as CI has."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mount{len(mounts)}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounts.append(folder)
        return folder

    yield mount
    for folder in mounts:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.kill
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_is_an_error_that_says_so_and_the_run_goes_on_later(
    longer: Path, tmp_path: Path, mounted: Callable[..., Path], fedjourney_command: Command
) -> None:
    folder = mounted("size=64k") / "run"
    failed = fedjourney_command(["run", longer, "--out", folder, "--engine", "serial"])
    assert failed.returncode == 2, failed.stderr
    assert "cannot be written (No space left on device)" in failed.stderr
    assert "Traceback" not in failed.stderr
    subprocess.run(["mount", "-o", "remount,size=16m", str(folder.parent)], check=True)
    reference = fedjourney.run(fedjourney.load(longer), tmp_path / "reference")
    assert fedjourney.resume(folder).digest == reference.digest
    assert records(folder) == records(tmp_path / "reference")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.kill
def test_a_read_only_folder_is_an_error_that_says_so(
    longer: Path, mounted: Callable[..., Path], fedjourney_command: Command
) -> None:
    folder = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    failed = fedjourney_command(["run", longer, "--out", folder / "run"])
    assert failed.returncode == 2
    assert "cannot be written (Read-only file system)" in failed.stderr
