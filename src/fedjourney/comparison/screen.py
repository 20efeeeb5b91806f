"""What a person sees while a comparison runs, and the table at its end."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fedjourney.comparison import Compared, statistics
from fedjourney.comparison.cells import Cell
from fedjourney.comparison.claims import UNDECIDED, Verdict
from fedjourney.comparison.words import between, budget_text, measured_of, points

HEADER = ("cell", "metric", "rounds", "MB", "evaluations")


class Screen:
    """Plain lines, one a finished cell."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._stage = ""

    def told(self, stage: str, cell: Cell, said: dict[str, Any], done: int, count: int) -> None:
        """Show what a cell says."""
        if self.quiet or "done" not in said:
            return
        if stage != self._stage:
            self._stage = stage
            print(f"{stage}: {count} runs", flush=True)
        print(f"  {done:>{len(str(count))}}/{count}  {_ended(cell, said)}", flush=True)

    def finished(self, compared: Compared) -> None:
        """Print the table, the verdicts, and where everything is."""
        if not self.quiet:
            print("\n".join(table(compared)))


class LiveScreen(Screen):
    """The runs under way, the last that ended, a bar and the time left."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet)
        from rich.console import Console
        from rich.live import Live

        self._ended: deque[str] = deque(maxlen=8)
        self._under_way: dict[str, str] = {}
        self._began, self._first = time.monotonic(), 0
        self.live = Live(console=Console(), auto_refresh=False)

    def told(self, stage: str, cell: Cell, said: dict[str, Any], done: int, count: int) -> None:
        """Show what a cell says."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if stage != self._stage:
            self._stage, self._began, self._first = stage, time.monotonic(), max(done - 1, 0)
        if "done" in said:
            self._under_way.pop(cell.title, None)
            self._ended.append(_ended(cell, said))
        else:
            metric = next(iter(said["test"].items()), ("", None))
            value = "NaN" if metric[1] is None else f"{metric[1]:.4g}"
            self._under_way[cell.title] = f"{cell.title}  round {said['round']}  {metric[0]} {value}"
        worked = done - self._first
        left = (time.monotonic() - self._began) / worked * (count - done) if worked > 0 else None
        until = "" if left is None else f"  about {int(left) // 60} min left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=count, completed=done, width=40), Text(f"{stage} {done}/{count}{until}"))
        lines = [*(Text(line, style="dim") for line in self._ended), *map(Text, self._under_way.values())]
        self.live.update(Group(*lines, bar), refresh=True)


def _ended(cell: Cell, said: dict[str, Any]) -> str:
    paid, test = said["last"].paid, said["last"].test
    return (
        f"{cell.title}  ends at {test:.4g} after {paid['rounds']:.0f} rounds, "
        f"{paid['bytes'] / 1e6:.3g} MB, {paid['evaluations']:.3g} evaluations a client"
    )


def table(compared: Compared) -> list[str]:
    """Return the results as lines: each scenario at each budget, then claims and rules not met."""
    results, lines = compared.results, []
    comparison = results.comparison
    for scenario in comparison.scenarios:
        for budget in comparison.budgets:
            differences = results.differences(scenario, budget)
            rows = [
                (
                    "arm",
                    comparison.metric,
                    "spread",
                    "against",
                    "difference",
                    "95 % of it",
                    "rounds",
                    "kB",
                    "evaluations",
                )
            ]
            for arm in comparison.arms:
                row, other = results.row(scenario, arm, budget), differences.get(arm)
                note = f" ({comparison.arms[arm].beside})" if comparison.arms[arm].beside else ""
                note += f" ({row['diverged']} diverged)" if row["diverged"] else ""
                rows.append(
                    (
                        arm + note,
                        measured_of(results, row["mean"]) if row["evaluations"] else "–",
                        points(results, row["spread"]),
                        other["against"] if other else "–",
                        points(results, other["mean"], True) if other else "–",
                        between(results, other["low"], other["high"]) if other else "–",
                        f"{row['paid']['rounds']:.0f}",
                        f"{row['paid']['bytes'] / 1e3:.0f}",
                        f"{row['paid']['evaluations']:.3g}",
                    )
                )
            lines += ["", f"{scenario}, {budget_text(budget)} a client", *_aligned(rows)]
    seeds = len(comparison.seeds)
    lines += [
        "",
        f"{seeds} seeds; detectable at 80 % power: {statistics.detectable(seeds):.2g} sd of a paired difference",
    ]
    if compared.verdicts:
        lines += ["", f"claims ({compared.summary['status']})"]
        lines += [f"  {one.verdict:<11}  {one.claim.name}{_to_tell(one)}" for one in compared.verdicts]
    lines += ["", "rules not met"] + [f"  {rule}" for rule in compared.summary["rules_not_met"]]
    return [*lines, "", f"page    {compared.page}", f"results {compared.folder / 'results.json'}"]


def _to_tell(one: Verdict) -> str:
    """Return how many seeds would tell, where these cannot."""
    if one.verdict != UNDECIDED:
        return ""
    return f" (with {one.seeds} seeds, if nothing else changes)" if one.seeds else " (not with a thousand seeds either)"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    wide = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if place in (0, 3) else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(row, wide, strict=True))
        )
        for row in rows
    ]


@contextmanager
def screen(*, quiet: bool, plain: bool) -> Iterator[Screen]:
    """Yield the screen that fits: live on a terminal, plain lines elsewhere."""
    if quiet or plain or sys.stdout is None or not sys.stdout.isatty():
        yield Screen(quiet)
        return
    shown = LiveScreen(quiet)
    with shown.live:
        yield shown
