"""The two doors on Flower's runtimes: the same file gives the same bits as in one process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedjourney
from fedjourney.engines._reaper import VARIABLE
from fedjourney.engines.flower import Deployment, run_simulation
from fedjourney.errors import RunError

pytestmark = pytest.mark.deploy

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.toml"
OVERRIDES = ["experiment.rounds=2"]
NODES = 3
SECONDS = 300.0


def digest(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["digest"])


def marked(folder: Path) -> list[str]:
    """Return the command lines of living processes whose launcher had its home in that folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{VARIABLE}={folder}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def homes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the launchers' homes into a folder that must be empty in the end, with no process left."""
    with tempfile.TemporaryDirectory(prefix="homes-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        assert marked(Path(folder)) == []
        assert list(Path(folder).glob("fedjourney-*")) == []


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("serial") / "run"
    command = [sys.executable, "-m", "fedjourney.cli", "run", str(QUICKSTART), "--engine", "serial", "--quiet"]
    command += ["--out", str(run)]
    for override in OVERRIDES:
        command += ["--set", override]
    subprocess.run(command, check=True, timeout=SECONDS)
    return digest(run)


def test_the_simulation_gives_the_bits_of_serial(serial: str, tmp_path: Path):
    run_simulation(QUICKSTART, tmp_path / "run", nodes=NODES, overrides=OVERRIDES, timeout=SECONDS)
    assert digest(tmp_path / "run") == serial


def test_superlink_and_supernodes_give_the_bits_of_serial(serial: str, tmp_path: Path):
    with Deployment(NODES) as deployment:
        deployment.run(QUICKSTART, tmp_path / "run", overrides=OVERRIDES, timeout=SECONDS)
    assert digest(tmp_path / "run") == serial


def test_a_run_that_fails_shows_its_log_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(RunError, match=r"nowhere\.toml"):
        run_simulation(tmp_path / "nowhere.toml", tmp_path / "run", nodes=NODES, timeout=SECONDS)


def test_a_launcher_that_is_killed_leaves_nothing(homes: Path):
    code = (
        "import os, signal\n"
        "from fedjourney.engines.flower import Deployment\n"
        "with Deployment(1):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"TMPDIR": str(homes)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=SECONDS, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while list(homes.glob("fedjourney-*")) and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("strategy", "engine"),
    [
        ("centralized", "local"),
        ("flwr.serverapp.strategy:FedProx", "local"),
        ("flwr.serverapp.strategy:FedProx", "flower"),
    ],
)
def test_what_comes_from_elsewhere_is_the_same_on_every_engine(strategy: str, engine: str, homes: Path) -> None:
    overrides = ["experiment.rounds=3", "experiment.evaluate_every=2", f"strategy.name={strategy}"]
    overrides += ["strategy.proximal_mu=0.1"] * strategy.startswith("flwr")
    for name in ("serial", engine):
        fedjourney.run(fedjourney.load(QUICKSTART, overrides, engine=name), homes / name)
    assert digest(homes / engine) == digest(homes / "serial")
