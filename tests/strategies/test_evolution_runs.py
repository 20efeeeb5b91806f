"""Whole runs: a stop and a resume, worker processes, model or fitness down, and what was charged."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedjourney
from fedjourney import config
from fedjourney.plan import plan
from fedjourney.seeds import seed_for

P = 64 * 16 + 16 + 16 * 10 + 10  # parameters of `small`
RUNS: dict[str, tuple[str, int, int]] = {
    # name -> options, bytes of tensors a client sends in a round's first exchange, and gets in round 1
    "open_es": ("population = 8\n", 8 * 4, 4 * P),
    "open_es replayed": ('population = 8\ndownlink = "fitness"\n', 8 * 4, 4 * P),
    "snes": ("population = 8\n", 8 * 4, 8 * P),
    "snes replayed": ('population = 8\ngranularity = "layer"\ndownlink = "fitness"\n', 8 * 4, 4 * P),
    "guided_es": ("population = 8\n", 4 * 4, 4 * P),
    "evofed": ("population = 8\nblocks = 2\n", 2 * 4 * 4, 4 * P),
    "sketch": ("directions = 4\n", 4 * 4, 4 * P),
    "random_search": ("population = 8\n", 8 * 4, 4 * P),
    "decomfl": ("perturbations = 3\nlocal_steps = 2\n", 2 * 3 * 4, 4 * P + 2 * 8),
    "fedkseed": ("seeds = 32\nsteps = 3\n", 3 * 6, 4 * P),
    "genetic": ("population = 8\n", 8 * 4, 4 * P),
    "eggroll": ("population = 8\n", 8 * 4, 4 * P),
    "alternating": ("population = 8\n", 4 * P, 4 * P),
    "fitness_weighted": ("", 4 * P, 4 * P),
}
TWICE = {  # whose rounds have further exchanges with others: bytes up and down of all clients in round 1
    # 4 clients train one of 2 individuals, 2 score 2 + 2, then 2 + 3 of which 3 are bred from seeds
    "esgd": (
        "population = 2\noffspring = 3\npanel = 2\nelite = 1\n",
        4 * 4 * P + 2 * (4 + 5) * 4,
        4 * 4 * P + 2 * (4 * 4 * P + 2 * 4 * P + 3 * (2 * 4 + 8)),
    ),
    # 4 clients train, 2 score 4 models, twice
    "evolved_weights": ("population = 4\n", 4 * 4 * P + 2 * 2 * 4 * 4, 4 * 4 * P + 2 * 2 * 4 * 4 * P),
}


def experiment(small: str, name: str, options: str, engine: str = "") -> config.Experiment:
    text = small.replace("cohort = 4", "cohort = 4\nevaluate_every = 0").replace("rounds = 4", "rounds = 3")
    text += '[task]\nname = "classification"\nbatch_size = 50\n'
    return config.parse(
        text.replace('name = "serial"', engine or 'name = "serial"')
        + f'[strategy]\nname = "{name.split()[0]}"\n{options}'
    )


OPTIONS = {name: case[0] for name, case in (RUNS | TWICE).items()}
QUICK = ["open_es replayed", "fedkseed", "genetic", "esgd", "evolved_weights"]  # one of each way to remember and to ask


def some(names: list[str], quick: list[str]) -> list[Any]:
    """Return the names, those beyond `quick` for the tests that CI alone runs."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.deploy) for name in names]


@pytest.mark.parametrize("name", some([*OPTIONS], QUICK))
def test_a_run_that_stopped_goes_on_to_the_same_bits(name: str, small: str, tmp_path: Path) -> None:
    whole = fedjourney.run(experiment(small, name, OPTIONS[name]), tmp_path / "whole")
    assert all(row["clients"]["counted"] and not row["clients"]["failed"] for row in whole.rounds[1:])
    _charged(name, whole.rounds[1])

    class StopError(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise StopError

    with pytest.raises(StopError):
        fedjourney.run(experiment(small, name, OPTIONS[name]), tmp_path / "stopped", watch=stop)
    assert fedjourney.resume(tmp_path / "stopped").digest == whole.digest


def _charged(name: str, first: dict[str, Any]) -> None:
    """Check round 1's bytes: the tensors' own, and some 60 to 500 a message for names, shapes and metrics."""
    messages = 4
    if name in TWICE:
        _, up, down = TWICE[name]
        messages += 2 * 2
    else:
        up, down = 4 * RUNS[name][1], 4 * RUNS[name][2]
    assert up + 60 * messages < first["bytes_up"] < up + 500 * messages
    assert down + 60 * messages < first["bytes_down"] < down + 700 * messages


@pytest.mark.parametrize(
    "name", some(["open_es", "snes", "guided_es", "evofed", "decomfl", "genetic", "eggroll"], ["decomfl", "eggroll"])
)
def test_model_or_fitness_down_is_the_same_run(name: str, small: str, tmp_path: Path) -> None:
    options = OPTIONS[name]
    told, replayed = (
        fedjourney.run(experiment(small, name, f'{options}downlink = "{way}"\n'), tmp_path / way)
        for way in ("model", "fitness")
    )
    assert replayed.digest == told.digest  # it holds every metric of every client: each scored the same model
    assert replayed.rounds[3]["bytes_down"] < told.rounds[3]["bytes_down"]


def test_records_tell_how_far_a_round_moved_and_how_far_its_answers_lay_apart(small: str, tmp_path: Path) -> None:
    told = experiment(small.replace("rounds = 4", "rounds = 1"), "snes", "population = 8\n")
    result = fedjourney.run(told, tmp_path / "run")
    before = plan(told).task.init(seed_for(0, "model"))
    moved, size = (torch.cat([t.flatten() for t in some]).norm() for some in (
        [after - before[name] for name, after in result.parameters.items()], before.values()
    ))  # fmt: skip
    step = result.rounds[1]["step"]
    assert step["relative"] == pytest.approx(float(moved / size), rel=1e-5)
    assert step["fitness_spread"] > 0
    assert step["sigma"] == pytest.approx(0.05, rel=0.1)
    assert step["sigma"] != 0.05  # its levels have adapted
    assert "step" not in result.rounds[0]
