"""The quantum configs reach what they say: the mean of the last five evaluations, within the spread seen."""

from pathlib import Path
from statistics import mean

import pytest

import fedjourney
from fedjourney import config

CONFIGS = Path(__file__).parents[2] / "configs"
NUMBERS = {
    "digits-mps": ("accuracy", 0.935),
    "digits-circuit": ("accuracy", 0.78),
    "heisenberg": ("r2", 0.815),
    "ising-shadows": ("accuracy", 0.89),
    "cluster-qcnn": ("accuracy", 0.65),
    "annni-qcnn": ("accuracy", 0.91),
    "annni-qcnn-open-es": ("accuracy", 0.76),
}


@pytest.mark.numbers
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_config_reaches_what_it_says(tmp_path: Path, name: str, seed: int) -> None:
    experiment = config.load(CONFIGS / f"{name}.toml", [f"experiment.seed={seed}"])
    rounds = fedjourney.run(experiment, tmp_path / "run").rounds
    metric, least = NUMBERS[name]
    assert mean([row["test"][metric] for row in rounds if row["test"]][-5:]) >= least
