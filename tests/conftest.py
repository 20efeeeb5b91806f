"""Fixtures that several folders share."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from process import command, environment

SMALL = """
[experiment]
name = "small"
rounds = 4
cohort = 4
[data]
name = "digits"
[partition]
name = "dirichlet"
clients = 8
alpha = 0.5
[model]
name = "mlp"
hidden = [16]
[engine]
name = "serial"
"""


@pytest.fixture
def small() -> str:
    """A federated experiment of a second: 8 clients, 4 rounds, real digits."""
    return SMALL


@pytest.fixture
def data_root() -> Path:
    """The root of real data sets; without one the test is skipped, but never in CI."""
    named = os.environ.get("FEDJOURNEY_DATA")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        assert not os.environ.get("CI"), "CI must have the real data: set FEDJOURNEY_DATA"
        pytest.skip(f"needs real data: {root} is not there, and FEDJOURNEY_DATA names no other root")
    return root


@pytest.fixture
def fedjourney_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own; `faulty` and other modules of this folder can be named."""

    def run(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(arguments), capture_output=True, text=True, timeout=120, **environment(options))

    return run


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Compute as a worker does: two test processes with two threads each would wait for one another."""
    torch.set_num_threads(1)
