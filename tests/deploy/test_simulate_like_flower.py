"""The same app in Flower's own simulation and in ours: the same parameters."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import fedjourney
from fedjourney.engines.flower import Simulation

pytestmark = pytest.mark.deploy

APP = Path(__file__).parents[1] / "simulation" / "apps" / "numpy_fedavg"
NODES = 4
SECONDS = 180.0
TRIES = 3


def test_a_numpy_app_learns_the_same_parameters(tmp_path: Path) -> None:
    # Flower's simulation begins to sample while its nodes still come: with fewer available, round 1 has fewer clients
    nodes = {"fraction": 1.0, "min-available-nodes": NODES}
    config = {"rounds": 2, "learning-rate": 0.001, "train.steps": 3} | nodes
    app = tmp_path / "app"  # a copy: `flwr run` rewrites a pyproject.toml that names federations
    shutil.copytree(APP, app)
    ours, theirs = tmp_path / "ours.npy", tmp_path / "theirs.npy"
    result = fedjourney.simulate(app, nodes=NODES, run_config=config | {"result": str(ours)}, workers=2)
    assert result.failed == 0
    nested = {"train": {"steps": config["train.steps"]}}
    flat = {key: value for key, value in config.items() if "." not in key}
    answered: list[str] = []
    for _ in range(TRIES):  # now and then Flower's simulation loses a reply, which is no run to compare with
        with Simulation(NODES, app=app) as superlink:
            superlink.submit(flat | nested | {"result": str(theirs)}, "the app", timeout=SECONDS)
            answered = re.findall(r"aggregate_train: Received (\d+) results", (superlink.home / "run.log").read_text())
        if answered == [str(NODES)] * config["rounds"]:
            break
    assert answered == [str(NODES)] * config["rounds"]
    # Flower adds replies in the order of their arrival, so the last bits may differ
    np.testing.assert_allclose(np.load(ours), np.load(theirs), rtol=1e-12, atol=1e-15)
    assert np.abs(np.load(ours)).max() > 0.01
