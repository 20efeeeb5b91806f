"""What a person sees while a run runs: a live table on a terminal, plain lines in a pipe."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fedjourney.config import Experiment
from fedjourney.metrics import digits, headline, shown, spoken
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
    loss, fitness = row["train"].get("loss"), row["train"].get("fitness")
    return [
        str(row["round"]),
        f"{clients['asked']}/{clients['answered']}/{failed}" if clients["asked"] else "–",
        digits(loss) if loss is not None else shown("fitness", fitness) if fitness is not None else "–",
        _metric(row["validation"]),
        _metric(row["test"]),
        _megabytes(row["bytes_up"]),
        _megabytes(row["bytes_down"]),
        f"{row['seconds']:.2f}",
    ]


def _megabytes(count: float) -> str:
    """Return bytes in MB; a few of them are not told as none.

    >>> _megabytes(312_000), _megabytes(256), _megabytes(0)
    ('0.31', '0.0003', '0.00')
    """
    small = 0 < count < 5000
    return f"{count / 1e6:.{6 - len(str(int(count))) + 1}f}" if small else f"{count / 1e6:.2f}"


def _metric(metrics: dict[str, float | None]) -> str:
    """Return the metric that the task puts first."""
    name = headline(metrics)
    return "–" if name is None else shown(name, metrics[name])


def _result(metrics: dict[str, float | None], rows: list[dict[str, Any]], trained: bool) -> str:
    """Return the test result with its metric's name; before it, where clients have models of their own, theirs."""
    name = headline(metrics)
    if name is None:
        return ""
    said = spoken(name)
    value = shown(name, metrics[name]).removeprefix(f"{said} ")
    own = rows[-1].get("evaluation", {}).get(f"personal/{name}")
    if own is None:
        return f"{value} test {said} after "
    mean = shown(name, own["mean"]).removeprefix(f"{said} ")
    if not any(row["clients"]["answered"] for row in rows):
        return f"{mean} mean {said} of the start model at clients, {value} test {said} after "
    whose = "the shared one" if trained else "the shared one, which was not trained,"
    return f"{mean} mean {said} of clients' own models, {value} test {said} of {whose} after "


def failures(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return a line for each kind of failure, with one example, and one for the rounds that did not count."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    rows = list(rows)
    for row in rows:
        for failure in row["clients"]["failed"]:
            found.setdefault((failure["kind"], failure["stage"]), []).append(failure | {"round": row["round"]})
    lines = [
        f"{len(some)} {'reply' if len(some) == 1 else 'replies'} did not count ({kind}, {stage}); the first, of client "
        f"{some[0]['client']} in round {some[0]['round']}: {some[0]['message']}"
        for (kind, stage), some in found.items()
    ]
    idle = [row for row in rows if not row["clients"].get("counted", True)]
    if idle:
        lines.append(
            f"{len(idle)} of {len(rows) - 1} rounds kept the parameters as they were; "
            f"round {idle[0]['round']}: {idle[0]['clients'].get('reason', 'too few replies')}"
        )
    return lines


class Screen:
    """Plain lines, one a round."""

    def __init__(self, experiment: Experiment | None, quiet: bool) -> None:
        self.experiment, self.quiet = experiment, quiet
        self._wide = [len(title) for title in HEADER]
        self._begun = False

    def round(self, row: dict[str, Any]) -> None:
        """Show a finished round."""
        if self.quiet:
            return
        line = cells(row)
        self._wide = [max(wide, len(cell)) for wide, cell in zip(self._wide, line, strict=True)]
        for some in (line,) if self._begun else (HEADER, line):
            print("  ".join(f"{cell:>{wide}}" for cell, wide in zip(some, self._wide, strict=True)), flush=True)
        self._begun = True

    def finished(self, result: Result) -> None:
        """Say what came out and where it is."""
        if self.quiet:
            return
        said = result.summary
        came = _result(
            said["test"], result.rounds, said.get("trained", True)
        )  # a run of an earlier version does not say
        rounds = "1 round" if said["rounds"] == 1 else f"{said['rounds']} rounds"
        print(f"\n{came}{rounds} in {said['seconds']:.1f} s")
        for line in failures(result.rounds):
            print(line)
        print(f"digest  {result.digest}")
        print(f"report  {result.folder / 'report.html'}")


class LiveScreen(Screen):
    """A table that grows, a progress bar and the time left."""

    ROWS = 15
    SPARED = ("MB down", "MB up", "validation", "seconds", "train loss")
    """Columns that are left out where the terminal is too narrow for all, the first of them first."""

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
        width, height = self.live.console.size
        lines = list(self._rows)[-max(1, height - 8) :]  # title, heads, lines and the bar need the rest
        titles = [title.replace(" (asked/answered/failed)", "\nasked/answered/failed") for title in HEADER]
        for place in self._fitting(titles, lines, width):
            table.add_column(titles[place], justify="right", no_wrap=True)
        for line in lines:
            table.add_row(*(line[place] for place in self._fitting(titles, lines, width)))
        total = self.experiment.rounds
        worked = self._done - self._first
        left = (time.monotonic() - self._began) / worked * (total - self._done) if worked else None
        until = "" if left is None else f"  {int(left) // 60}:{int(left) % 60:02d} left"
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=total, completed=self._done, width=40), Text(f"{self._done}/{total}{until}"))
        return Group(table, bar)

    def _fitting(self, titles: list[str], lines: list[list[str]], width: int) -> list[int]:
        """Return the columns that fit side by side, each with a space on both sides and a line between them."""
        shown = list(range(len(HEADER)))
        for spared in ("", *self.SPARED):
            shown = [place for place in shown if HEADER[place] != spared]
            texts = [[*titles[place].split("\n"), *(line[place] for line in lines)] for place in shown]
            if sum(3 + max(map(len, column)) for column in texts) + 1 <= width:
                break
        return shown


@contextmanager
def screen(experiment: Experiment | None, *, quiet: bool, plain: bool) -> Iterator[Screen]:
    """Yield the screen that fits: live on a terminal, plain lines elsewhere."""
    if quiet or plain or experiment is None or sys.stdout is None or not sys.stdout.isatty():
        yield Screen(experiment, quiet)
        return
    shown = LiveScreen(experiment, quiet)
    with shown.live:
        yield shown
