"""What every strategy must hold on engines and networks: the bits of `serial`, and no bit from whoever is too late."""

from pathlib import Path
from typing import Any

import pytest
from late import LateGrid
from strategy_options import ON_DIGITS

import fedjourney
from fedjourney import config, plugins, run_folder
from fedjourney.engines import Where
from fedjourney.experiment import serve
from fedjourney.plan import Plan, plan
from fedjourney.results import Result

pytestmark = pytest.mark.kill  # processes, and deadlines that pass

EVERY = plugins.names("strategy")
POOLED = {name for name in EVERY if getattr(plugins.load("strategy", name), "pooled", False)}
ROUNDS = 3


def experiment(name: str, small: str) -> config.Experiment:
    lines = "".join(f"{key} = {value!r}\n" for key, value in ON_DIGITS.get(name, {}).items())
    text = small.replace("cohort = 4", "cohort = 7\nevaluate_every = 0").replace("rounds = 4", f"rounds = {ROUNDS}")
    text += '[task]\nname = "classification"\nbatch_size = 50\nsteps = 2\n'
    return config.parse(f'{text}[strategy]\nname = "{name}"\n{lines}')


@pytest.mark.parametrize("name", EVERY)
def test_workers_give_serials_bits(name: str, small: str, tmp_path: Path) -> None:
    serial = fedjourney.run(experiment(name, small), tmp_path / "serial")
    # one worker: what another process makes of a strategy; that their number is nothing, test_engines.py says
    told = config.parse(experiment(name, small).text(), ["engine.name=local", "engine.workers=1"])
    local = fedjourney.run(told, tmp_path / "local")
    assert local.digest == serial.digest
    assert [row["bytes_up"] for row in local.rounds] == [row["bytes_up"] for row in serial.rounds]
    assert all(row["clients"]["counted"] for row in serial.rounds)


def late(round: int, client: int) -> bool:
    """Two of the eight in each of the first rounds, never the same two."""
    return client in (2 * round - 2, 2 * round - 1)


def served(built: Plan, folder: Path, delivered: bool) -> tuple[Result, LateGrid]:
    run_folder.create(folder, built)
    grid = LateGrid(built, folder / "states", late, delivered)
    return serve(built, grid, folder, Where(None, folder / "states")), grid


@pytest.mark.parametrize("name", sorted({*EVERY} - POOLED))
def test_a_reply_after_its_round_changes_no_bit_and_is_told(name: str, small: str, tmp_path: Path) -> None:
    (with_them, grid), (without, _) = (
        served(plan(experiment(name, small)), tmp_path / str(delivered), delivered) for delivered in (True, False)
    )
    assert grid.arrived_late
    assert with_them.digest == without.digest
    for row in with_them.rounds[1:]:
        failed: list[dict[str, Any]] = row["clients"]["failed"]
        assert all(one["kind"] == "lost" and "deadline" in one["message"] for one in failed)
        assert all(late(row["round"], one["client"]) for one in failed)
        assert row["clients"]["counted"]
    assert any(row["clients"]["failed"] for row in with_them.rounds[1:])
