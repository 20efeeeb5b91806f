"""What came out of a cell: its curve over every axis, its number at a budget, what a target cost."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedjourney.comparison.cells import FILE, Cell, cost, rows_of
from fedjourney.comparison.design import Budget
from fedjourney.comparison.statistics import spread, total

LAST = 5  # evaluations whose mean is reported
HOLDS = 3  # evaluations a target must be kept for


@dataclass(frozen=True)
class Point:
    """A round that was evaluated: what was paid until then, and the metric (NaN: it was no finite number)."""

    paid: Mapping[str, float]
    test: float
    validation: float


@dataclass(frozen=True)
class Outcome:
    """A cell at a budget.

    Attributes:
        value: the mean of the last evaluations within it; chance where the run diverged.
        evaluations: how many those were; 0: not even one round fits, the value is that of the initial model.
        diverged: whether nothing counted any more at the end, or the metric was no finite number.
        short: whether the run ended long before the budget.
        paid: on each axis when the budget was reached; `gradients` and `forwards` besides.
    """

    value: float
    evaluations: int
    diverged: bool
    short: bool
    paid: Mapping[str, float]


@dataclass(frozen=True)
class Trace:
    """A cell as it was written.

    Attributes:
        cell: which.
        points: the rounds that were evaluated, 0 first.
        rounds: (paid until then, whether it counted) of every round.
        start: the digest of what arms have in common.
        chance: the metric of somebody who guesses; where that is not known, the untrained model's.
        test: examples it was tested on.
    """

    cell: Cell
    points: Sequence[Point]
    rounds: Sequence[tuple[Mapping[str, float], bool]]
    start: str
    chance: float
    test: int

    def at(self, budget: Budget, split: str = "test") -> Outcome:
        """Return the cell's number at a budget: the mean of the last five evaluations, never the best."""
        axis, most = budget.axis, budget.most * (1 + 1e-9)
        done = [(paid, counted) for paid, counted in self.rounds if paid["rounds"] > 0 and paid[axis] <= most]
        paid = done[-1][0] if done else self.rounds[0][0]
        within = [point for point in self.points if point.paid["rounds"] > 0 and point.paid[axis] <= most]
        values = [getattr(point, split) for point in within[-LAST:]]
        diverged = bool(done) and not any(counted for _, counted in done[-LAST:])
        diverged = diverged or any(math.isnan(value) for value in values)
        last = self.rounds[-1][0]
        pace = last[axis] / max(last["rounds"], 1.0)
        short = last[axis] + pace <= most
        if diverged:
            return Outcome(self.chance, len(values), True, short, paid)
        value = total(values) / len(values) if values else getattr(self.points[0], split)
        return Outcome(value, len(values), False, short, paid)

    def reach(self, target: float, axis: str, lower: bool, budget: Budget | None = None) -> tuple[float, bool]:
        """Return what it cost until validation first kept the target for three evaluations, and whether it did.

        A run that misses (within the budget) is censored: what is returned is all that it cost.
        """
        kept = 0
        for place, point in enumerate(self.points):
            if budget is not None and point.paid[budget.axis] > budget.most * (1 + 1e-9):
                break
            good = point.validation <= target if lower else point.validation >= target
            kept = kept + 1 if good else 0
            if kept == HOLDS:
                return self.points[place - HOLDS + 1].paid[axis], True
        return (self.rounds[-1][0] if budget is None else self.at(budget).paid)[axis], False


def read(cell: Cell, metric: str) -> Trace:
    """Return a finished cell; a metric of clients' own models ("personal/…") is the mean over their held-out parts."""
    folder = Path(cell.folder)
    told = json.loads((folder / FILE).read_text())
    paid = {"rounds": 0.0, "bytes": 0.0, "evaluations": 0.0, "gradients": 0.0, "forwards": 0.0}
    points, rounds = [], []
    for row in rows_of(folder):
        asked = max(row["clients"]["asked"], 1)
        one = cost(row) | {name: row[name] / asked for name in ("gradients", "forwards")}
        paid = {axis: value + one[axis] for axis, value in paid.items()}
        rounds.append((paid, bool(row["clients"]["counted"])))
        if metric.startswith("personal/"):
            if (own := _number(row.get("evaluation", {}).get(metric, {}), "mean")) == own:
                points.append(Point(paid, own, math.nan))
        elif row["test"] or row["validation"]:
            points.append(Point(paid, _number(row["test"], metric), _number(row["validation"], metric)))
    classes = told["classes"]
    guessed = {"accuracy": 1 / classes, "loss": math.log(classes)} if classes else {}
    chance = guessed.get(metric, points[0].test)
    return Trace(cell, points, rounds, told["start"], chance, told["test"])


def _number(metrics: Mapping[str, Any], name: str) -> float:
    value = metrics.get(name)
    return math.nan if value is None else float(value)


def mean_curve(traces: Sequence[Trace], axis: str, split: str = "test") -> list[tuple[float, float, float]]:
    """Return (mean paid, mean, spread) over seeds at every evaluation that all of them had."""
    by_round = [{point.paid["rounds"]: point for point in trace.points} for trace in traces]
    found = []
    for number in sorted(set.intersection(*(set(one) for one in by_round))):
        here = [one[number] for one in by_round]
        values = [getattr(point, split) for point in here]
        if not any(math.isnan(value) for value in values):
            x = math.fsum(point.paid[axis] for point in here) / len(here)
            found.append((x, total(values) / len(values), spread(values) if len(values) > 1 else 0.0))
    return found
