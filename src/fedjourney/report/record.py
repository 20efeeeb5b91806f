"""A run in memory, and the questions a page asks of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedjourney.metrics import in_order

Point = tuple[float, float]


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        folder: where it lies.
        toml: the text of `experiment.toml`.
        experiment: the same, parsed: name of table -> options.
        rounds: the rows of `rounds.jsonl`.
        info: `run.json`, or empty.
        partition: `partition.json`, or empty.
        client_rows: a row per client and round, or empty.
        exhibit: what the task had to show when the run finished, `exhibit.json`, or empty.
        notes: what is missing or unreadable, one sentence each.
    """

    folder: Path
    toml: str
    experiment: dict[str, Any]
    rounds: list[dict[str, Any]]
    info: dict[str, Any]
    partition: dict[str, Any]
    client_rows: list[dict[str, Any]]
    exhibit: list[dict[str, Any]]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The experiment's name, else the folder's."""
        return str(table(self.experiment, "experiment").get("name") or self.folder.resolve().name)

    @property
    def last_round(self) -> int:
        """The last round written (0 before the first)."""
        return max((int(x) for row in self.rounds if (x := number(row.get("round"))) is not None), default=0)

    @property
    def wanted_rounds(self) -> int | None:
        """The rounds the experiment asks for."""
        wanted = number(table(self.experiment, "experiment").get("rounds"))
        return None if wanted is None else int(wanted)

    @property
    def finished(self) -> bool:
        """Whether the run says that it ended; without `run.json`, whether all rounds are there."""
        if isinstance(self.info.get("finished"), bool):
            return bool(self.info["finished"])
        return self.wanted_rounds is not None and self.last_round >= self.wanted_rounds

    @property
    def clients(self) -> int | None:
        """The number of clients the data are divided among."""
        places = (self.partition.get("clients"), table(self.experiment, "partition").get("clients"))
        return next((int(x) for place in places if (x := number(place)) is not None), None)

    @cached_property
    def metrics(self) -> list[str]:
        """Names of what was measured in any split, in the task's order: the most telling first."""
        return in_order(table(row, split) for split in SPLITS for row in self.rounds)

    @cached_property
    def main_metric(self) -> str | None:
        """The metric a run is told by: the first that was measured on test data, else on any."""
        on_test = [name for name in self.metrics if self.values("test", name)]
        return next(iter(on_test or self.metrics), None)

    @cached_property
    def told_by(self) -> tuple[str, ...] | None:
        """Where the value lies that a run is judged by: that of clients' own models where they have any."""
        metric = self.main_metric
        if metric is None:
            return None
        places = [("evaluation", f"personal/{metric}", "mean"), *((split, metric) for split in SPLITS)]
        return next((place for place in places if self.values(*place)), None)

    @property
    def personal(self) -> bool:
        """Whether clients were judged by models of their own."""
        return self.told_by is not None and self.told_by[0] == "evaluation"

    @property
    def trained(self) -> bool:
        """Whether the model that the server delivers is another than the one it began with, as far as is known."""
        return table(self.info, "summary").get("trained") is not False

    @cached_property
    def idle(self) -> bool:
        """Whether nothing was learned at all, at the server or at a client, as far as is known."""
        answered = self.series("clients", "answered")
        if self.personal or self.info.get("personal"):
            return self.last_round > 0 and bool(answered) and not any(y for _, y in answered)
        return not self.trained

    @property
    def untrained(self) -> list[str]:
        """Parameters of the delivered model that are those it began with, as far as is known."""
        names = self.info.get("untrained")
        return [str(name) for name in names] if isinstance(names, list) else []

    def values(self, *path: str) -> list[Point]:
        """Return (round, value) wherever `path` was measured; NaN where what came was no finite number."""
        points = []
        for row in self.rounds:
            holder: Any = row
            for key in path[:-1]:
                holder = holder.get(key) if isinstance(holder, Mapping) else None
            if not isinstance(holder, Mapping):
                continue
            x, y = number(row.get("round")), reading(holder, path[-1])
            if x is not None and y is not None:
                points.append((x, y))
        return points

    def series(self, *path: str) -> list[Point]:
        """Return (round, value) wherever the value at `path` in a row is a finite number."""
        return [point for point in self.values(*path) if math.isfinite(point[1])]

    def final(self, *path: str) -> float | None:
        """Return the last value at `path`, NaN where that was no finite number, or None where none was measured."""
        points = self.values(*path)
        return points[-1][1] if points else None

    def cumulative(self, key: str) -> list[Point]:
        """Return (round, sum of `key` up to and including it)."""
        total, points = 0.0, []
        for x, y in self.series(key):
            total += y
            points.append((x, total))
        return points


SPLITS = ("test", "validation", "train")


def table(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return `holder[key]` if it is a mapping, else an empty one."""
    value = holder.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def reading(holder: Mapping[str, Any], key: str) -> float | None:
    """Return what was measured: NaN where it cannot be drawn (a file has null for it), None where nothing was."""
    value = holder.get(key, "")
    if (drawn := number(value)) is not None:
        return drawn
    return math.nan if value is None or isinstance(value, float) else None


def number(value: Any) -> float | None:
    """Return a number that can be drawn (finite, below 1e300) as float, and None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None
