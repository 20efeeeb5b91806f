"""A comparison of a few seconds on real digits."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from written import Make, maker

TEXT = """
[comparison]
name = "little"
seeds = [0, 1]
targets = [0.5]
[budget]
rounds = [3]
bytes = [12_000]
[base.experiment]
holdout = 0.0
[base.data]
name = "digits"
[base.model]
name = "mlp"
hidden = [8]
[base.task]
batch_size = 20
steps = 3
[base.update]
name = "sgd"
learning_rate = 0.2
[scenarios.iid.partition]
name = "iid"
clients = 3
[scenarios.skew.partition]
name = "dirichlet"
clients = 3
alpha = 0.3
[arms.averaging]
[arms.evolution]
twin = "sketched"
[arms.evolution.strategy]
name = "open_es"
population = 8
[arms.sketched.strategy]
name = "sketch"
directions = 8
"""


@pytest.fixture
def text() -> str:
    return TEXT


@pytest.fixture
def tables() -> dict[str, Any]:
    return tomllib.loads(TEXT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "little.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)
