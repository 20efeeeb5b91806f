"""`make bench`: ratios are those of its raw measurements, and everybody does the same work."""

import json
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch

from fedjourney import config, plugins
from fedjourney.plan import plan
from fedjourney.seeds import seed_for
from fedjourney.tasks import signature_of
from fedjourney.updates import Client, LocalUpdate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (BENCHMARKS / "flower_app", BENCHMARKS):
        monkeypatch.syspath_prepend(str(folder))


def turn(system: str, repetition: int, seconds: float, *, model: str = "lenet", processes: int = 1) -> dict[str, Any]:
    """A measurement of 600 examples a round: a first round of 30 s, then five of `seconds`, the command at 100."""
    stamps = [130.0 + seconds * number for number in range(6)]
    tracks = [{"stamps": stamps, "samples": 600 // processes}] * processes
    head = {"model": model, "system": system, "repetition": repetition, "warmup": 1, "launched": 100.0, "busy": 0.0}
    return head | {"tracks": tracks, "parameters": 44_426}


def turns(seconds: dict[str, tuple[float, ...]], **options: Any) -> list[dict[str, Any]]:
    return [turn(system, number, one, **options) for system, each in seconds.items() for number, one in enumerate(each)]


MEASURED = turns(
    {
        "ours-fast": (1.0, 2.0, 1.0),
        "ours": (2.0, 2.0, 2.0),
        "flower": (12.0, 20.0, 13.0),
        "pfl-1": (3.0, 3.0, 5.0),
        "pfl-2": (4.0, 1.0, 4.5),
    }
) + turns({"bare-eager": (2.0, 3.0, 2.0), "bare-compiled": (1.5, 1.5, 9.0)}, processes=2)


def test_rates_leave_the_start_up_out_and_add_processes_up() -> None:
    import table

    assert table.rate(turn("flower", 0, 12.0)) == pytest.approx(50.0)
    assert table.startup(turn("flower", 0, 12.0)) == pytest.approx(30.0 - 12.0)
    assert table.rate(turn("bare-eager", 0, 2.0, processes=2)) == pytest.approx(300.0)
    unequal = turn("bare-eager", 0, 2.0)
    unequal["tracks"] = [{"stamps": [1.0, 2.0, 3.0], "samples": 10}, {"stamps": [1.0, 3.0, 5.0], "samples": 30}]
    assert table.rate(unequal) == pytest.approx(10.0 + 15.0)


def test_ratios_are_turn_by_turn_against_the_better_variant() -> None:
    import table

    assert table.ratios(MEASURED, "lenet", "ours-fast", "flower") == pytest.approx([12.0, 10.0, 13.0])
    assert table.best(MEASURED, "lenet", "pfl") == "pfl-1"  # by its median: 3 s against 4 s
    assert table.ratios(MEASURED, "lenet", "ours-fast", "pfl") == pytest.approx([3.0, 1.5, 5.0])
    assert table.best(MEASURED, "lenet", "bare") == "bare-compiled"
    broken = [
        one | ({"error": "ended"} if one["system"] == "flower" and one["repetition"] == 1 else {}) for one in MEASURED
    ]
    assert table.ratios(broken, "lenet", "ours", "flower") == pytest.approx([6.0, 6.5])
    assert table.ratios([], "lenet", "ours", "flower") == []


def told() -> dict[str, Any]:
    work = {
        "clients": 1000,
        "examples": 60,
        "cohort": 10,
        "epochs": 1,
        "batch": 10,
        "rounds": 5,
        "warmup": 1,
        "workers": 2,
    }
    machine = {"processor": "one", "cores": 2, "memory_gib": 24, "system": "Linux", "isa": "AVX2"}
    simulate = {"model": "lenet", "system": "simulate", "missing": "not there"}
    return {
        "made": "today", "command": "make bench", "machine": machine, "versions": {"torch": "2"}, "repetitions": 3,
        "works": {"lenet": work}, "measurements": [*MEASURED, simulate],
    }  # fmt: skip


def test_the_table_tells_ratios_beside_their_goals() -> None:
    import table

    lines = table.markdown(told()).splitlines()
    fast = next(line for line in lines if line.startswith("| LeNet 44 k, `--fast`"))
    assert fast.split(" | ")[1:] == [
        "**12.0x** (10.0–13.0), ≥ 11x reached",
        "**3.00x** (1.50–5.00), ≥ 4.2x missed",
        "**1.50x** (0.75–9.00), ≥ 1.4x reached |",
    ]
    assert any(line.startswith("| `simulate`") and "not there" in line for line in lines)
    assert "| Flower, `flwr run` | 13 | 46 | 18.0 s | 13.5 s |  |" in lines


def test_the_chart_shows_every_ratio() -> None:
    from chart import chart

    tree = ET.fromstring(chart(told()["measurements"]))
    marks = [one.get("class") for one in tree.iter("{http://www.w3.org/2000/svg}circle")]
    assert sorted(marks) == sorted(f"{kind} {peer}" for kind in ("dot", "plain") for peer in ("flower", "pfl", "bare"))
    assert all(float(one.get("cx", "nan")) > 0 for one in tree.iter("{http://www.w3.org/2000/svg}circle"))


@pytest.mark.parametrize(
    ("loop", "model"),
    [
        ("eager", 'name = "mlp"\nhidden = [16]'),
        ("flower", 'name = "mlp"\nhidden = [16]'),
        pytest.param("compiled", 'name = "mlp"\nhidden = [16]', marks=pytest.mark.compile),
        ("eager", 'name = "cnn"'),
    ],
)
def test_a_peer_does_our_client_update(small: str, loop: str, model: str) -> None:
    """The bare loops and the Flower app, on the batches that our client sees, give its parameters in float64."""
    import bare_loop
    from bench_app import task

    small = small.replace('"dirichlet"', '"iid"').replace("alpha = 0.5\n", "")
    text = small.replace('name = "mlp"\nhidden = [16]', model) + '[numerics]\ndtype = "float64"\n'
    built = plan(config.parse(text, ["update.learning_rate=0.05"]))
    half, shard, shared = built.halves["train"], built.shard(3)[0].cut(slice(0, 30)), built.task.init(7)
    assert isinstance(half, LocalUpdate)
    ours = Client(3, 1, shared, {}, {}, shard, built.task, 0).train(half).tensors

    seen = list(built.task.batches(shared, shard, seed_for(0, "batches", 1, 3, 0)))
    assert all(bool(batch.mask.all()) for batch in seen)
    module = plugins.build("model", built.experiment["model"], signature_of(built.dataset)).double()
    module.load_state_dict(shared)
    pairs = [(next(iter(batch.x.values())).double(), next(iter(batch.y.values()))) for batch in seen]
    if loop == "flower":
        x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        task.train(module, x, y, len(pairs[0][1]), 0.05)
    else:
        bare_loop.VARIANTS[loop](module, 0.05)(pairs)
    for name, tensor in module.state_dict().items():
        moved = tensor - shared[name]
        assert float(moved.abs().max()) > 1e-4
        torch.testing.assert_close(moved, ours[f"update/{name}"], rtol=0, atol=1e-9)


def test_the_flower_app_takes_the_run_config_that_it_is_given(tmp_path: Path) -> None:
    import work

    prepared = work.prepare(
        "noop", tmp_path / "noop", clients=6, cohort=3, batch=10, learning_rate=0.1, rounds=2, warmup=1, workers=1
    )
    said = tomllib.loads((BENCHMARKS / "flower_app" / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    given = work.flower_config(prepared, tmp_path / "result")
    assert {key: type(value) for key, value in given.items()} == {key: type(value) for key, value in said.items()}


@pytest.mark.deploy
def test_all_that_needs_no_extra_is_measured(tmp_path: Path) -> None:
    sizes = "--clients 6 --cohort 3 --rounds 2 --warmup 1 --repetitions 1 --workers 2"
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--models", "noop", "--out", str(tmp_path), *sizes.split()]
    subprocess.run(command, check=True, timeout=300)
    told = json.loads((tmp_path / "bench.json").read_text())
    found = {one["system"]: one for one in told["measurements"]}
    assert set(found) == {"ours-fast", "ours", "flower"}
    for one in found.values():
        assert sum(track["samples"] for track in one["tracks"]) == 3
        assert one["parameters"] == 10
    assert "no-op client" in (tmp_path / "bench.md").read_text()
