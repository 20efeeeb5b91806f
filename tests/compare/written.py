"""Runs written by hand, for what is read off them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedjourney.comparison import cells
from fedjourney.comparison.cells import Cell
from fedjourney.comparison.file import parse
from fedjourney.comparison.outcome import Trace, read
from fedjourney.comparison.results import Results

Make = Callable[..., Trace]


def row(
    number: int, accuracy: float | None, counted: bool = True, size: int = 1000, gradients: int = 30
) -> dict[str, Any]:
    metrics = {"accuracy": accuracy, "loss": None if accuracy is None else 1 - accuracy}
    return {
        "round": number,
        "test": metrics,
        "validation": metrics,
        "clients": {"asked": 10 if number else 0, "answered": 10, "failed": [], "counted": counted},
        "bytes_up": size * 4 if number else 0,
        "bytes_down": size * 6 if number else 0,
        "gradients": 300 if number else 0,
        "forwards": 50 if number else 0,
    }


def maker(tmp_path: Path) -> Make:
    """Return a function that writes a run of given accuracies and reads it back as a trace."""

    def one(
        accuracies: Sequence[float | None],
        *,
        place: tuple[str, str, str, int] = ("all", "a", "default", 0),
        **more: Any,
    ) -> Trace:
        failed = more.pop("failed", ())
        folder = tmp_path / "-".join(map(str, place))
        folder.mkdir(exist_ok=True)
        rows = [row(number, value, number not in failed, **more) for number, value in enumerate(accuracies)]
        (folder / "rounds.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        told = {"start": "same", "classes": 10, "test": 10_000, "ended": True, "paid": {}, "experiment": ""}
        (folder / cells.FILE).write_text(json.dumps(told))
        scenario, arm, setting, seed = place
        return read(Cell(arm, scenario, setting, seed, "", "", str(folder), ()), "accuracy")

    return one


def results(tables: dict[str, Any], make: Make, ends: dict[str, list[float]], **more: Any) -> Results:
    """Return results in which every arm stays at one accuracy per seed, in both scenarios."""
    tables["comparison"]["seeds"] = list(range(len(next(iter(ends.values())))))
    tables["budget"] = more.get("budget", {"rounds": [6]})
    tables["base"]["experiment"]["rounds"] = 6
    comparison, traces = parse(tables), {}
    for scenario in comparison.scenarios:
        for arm, values in ends.items():
            for seed, value in enumerate(values):
                place = (scenario, arm, "default", seed)
                traces[place] = make([0.1] + [value] * 6, place=place, **more.get(arm, {}))
    registered = frozenset(comparison.registered(claim) for claim in comparison.claims)
    return Results(comparison, traces, {}, registered)


def claim(direction: str, margin: float, **more: Any) -> dict[str, Any]:
    return {"name": direction, "arms": ["averaging", "evolution"], "direction": direction, "margin": margin} | more
