"""Killed workers, a killed parent, Ctrl-C: nothing is lost that need not be, and no process stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedjourney
from fedjourney.simulation.pool import AppError

pytestmark = pytest.mark.kill
SECONDS = 20.0


def test_a_killed_worker_is_replaced_and_its_message_run_once_more(
    apps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"do": "dying", "folder": str(tmp_path)}
    result = fedjourney.simulate(apps / "probe", nodes=3, workers=2, run_config=config)
    out, err = capsys.readouterr()
    counts = [
        line.split("{'count': ")[1][0] if "'count'" in line else "-" for line in out.splitlines() if "reply" in line
    ]
    assert counts == ["1", "1", "1", "-", "2", "2", "2", "3", "3"]  # the state of earlier messages is kept
    assert "(8, 'its worker was ended by SIGKILL, twice')" in out
    assert result.failed == 1
    assert err.count("a worker was ended by SIGKILL") == 3
    assert err.count("it is run once more") == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_killed_while_it_starts_is_started_once_more(
    apps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    copy = tmp_path / "app"
    shutil.copytree(apps / "numpy_fedavg", copy, ignore=shutil.ignore_patterns("__pycache__"))
    client = copy / "linear" / "client_app.py"
    killing = f"""
import os, pathlib, signal
deaths = pathlib.Path({str(tmp_path / "deaths")!r})
died = len(deaths.read_text()) if deaths.exists() else 0
if died < {times}:
    deaths.write_text("x" * (died + 1))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    client.write_text(killing + client.read_text())
    if times == 1:
        assert fedjourney.simulate(copy, nodes=2, workers=1).failed == 0
        assert "was ended by SIGKILL before it could work; it is started once more" in capsys.readouterr().err
    else:
        with pytest.raises(AppError, match="ended by SIGKILL before it could work"):
            fedjourney.simulate(copy, nodes=2, workers=1)


def living(folder: Path) -> list[int]:
    """Return the workers that wrote their pid and still live."""
    found = []
    for path in folder.glob("pid-*"):
        pid = int(path.name.removeprefix("pid-"))
        try:
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
        except OSError:
            continue
    return found


def until(folder: Path, count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(living(folder)) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(living(folder)) == count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("app", ["probe", "legacy"])
def test_no_process_stays_behind(apps: Path, tmp_path: Path, number: signal.Signals, app: str) -> None:
    config = f'do="hang" folder="{tmp_path}"' if app == "probe" else f'hang="{tmp_path}"'
    command = [sys.executable, "-m", "fedjourney.cli", "simulate", str(apps / app), "--workers", "2", "-c", config]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            until(tmp_path, 2)
            os.kill(running.pid, number)
            _, err = running.communicate(timeout=SECONDS)
            until(tmp_path, 0)
        finally:
            running.kill()
    assert running.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert "stopped after" in err
        assert "Traceback" not in err
