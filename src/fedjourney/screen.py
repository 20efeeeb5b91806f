"""What a person sees while a run runs: a live table on a terminal, plain lines in a pipe."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedjourney.config import Experiment
from fedjourney.results import Result

HEADER = (
    "round",
    "clients (asked/answered/failed)",
    "train loss",
    "validation",
    "test",
    "MB up",
    "MB down",
    "seconds",
)


def cells(row: dict[str, Any]) -> list[str]:
    """Return a round as text, in the order of `HEADER`."""
    clients = row["clients"]
    failed = clients["asked"] - clients["answered"]
    loss = row["train"].get("loss", row["train"].get("fitness"))
    return [
        str(row["round"]),
        f"{clients['asked']}/{clients['answered']}/{failed}" if clients["asked"] else "–",
        f"{loss:.4f}" if loss is not None else "–",
        _metric(row["validation"]),
        _metric(row["test"]),
        f"{row['bytes_up'] / 1e6:.2f}",
        f"{row['bytes_down'] / 1e6:.2f}",
        f"{row['seconds']:.2f}",
    ]


def _metric(metrics: dict[str, float]) -> str:
    if "accuracy" in metrics:
        return f"{metrics['accuracy']:.2%}"
    return next((f"{name} {value:.4f}" for name, value in metrics.items()), "–")


class Screen:
    """Plain lines, one a round."""

    def __init__(self, experiment: Experiment | None, quiet: bool) -> None:
        self.experiment, self.quiet = experiment, quiet
        self._begun = False

    def round(self, row: dict[str, Any]) -> None:
        """Show a finished round."""
        if self.quiet:
            return
        if not self._begun:
            print("  ".join(HEADER), flush=True)
            self._begun = True
        print(
            "  ".join(f"{cell:>{len(title)}}" for cell, title in zip(cells(row), HEADER, strict=True)),
            flush=True,
        )

    def finished(self, result: Result) -> None:
        """Say what came out and where it is."""
        if self.quiet:
            return
        said = result.summary
        print(
            f"\n{_metric(said['test'])} test accuracy after {said['rounds']} rounds in {said['seconds']:.1f} s"
            if "accuracy" in said["test"]
            else f"\n{said['rounds']} rounds in {said['seconds']:.1f} s"
        )
        print(f"digest  {result.digest}")
        print(f"report  {result.folder / 'report.html'}")


class LiveScreen(Screen):
    """A table that grows, a progress bar and the time left."""

    ROWS = 15

    def __init__(self, experiment: Experiment, quiet: bool) -> None:
        super().__init__(experiment, quiet)
        from rich.console import Console
        from rich.live import Live

        self._rows: deque[list[str]] = deque(maxlen=self.ROWS)
        self._done, self._began, self._first = 0, time.monotonic(), 0
        self.live = Live(console=Console(), auto_refresh=False, transient=False)

    def round(self, row: dict[str, Any]) -> None:
        """Show a finished round."""
        if not self._rows:
            self._first, self._began = row["round"], time.monotonic()
        self._rows.append(cells(row))
        self._done = row["round"]
        self.live.update(self._table(), refresh=True)

    def _table(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        assert self.experiment is not None
        table = Table(title=self.experiment["experiment"]["name"], title_justify="left", expand=False)
        for title in HEADER:
            table.add_column(title.replace(" (asked/answered/failed)", "\nasked/answered/failed"), justify="right")
        for line in self._rows:
            table.add_row(*line)
        total = self.experiment.rounds
        worked = self._done - self._first
        left = (time.monotonic() - self._began) / worked * (total - self._done) if worked else None
        until = "" if left is None else f"  {int(left) // 60}:{int(left) % 60:02d} left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=total, completed=self._done, width=40), Text(f"{self._done}/{total}{until}"))
        return Group(table, bar)


@contextmanager
def screen(experiment: Experiment | None, *, quiet: bool, plain: bool) -> Iterator[Screen]:
    """Yield the screen that fits: live on a terminal, plain lines elsewhere."""
    if quiet or plain or experiment is None or not sys.stdout.isatty():
        yield Screen(experiment, quiet)
        return
    shown = LiveScreen(experiment, quiet)
    with shown.live:
        yield shown
