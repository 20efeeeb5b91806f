"""What the screen shows: the app's own output as it is, failures once, a line while one waits, a line at the end.

Standard output carries what the app prints and nothing else (with `--json` one more line); all the rest goes
to standard error, as Flower's log does.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedjourney.simulation.answer import Answer, Failure

if TYPE_CHECKING:
    from fedjourney.simulation.desk import Job

NAMED = 5  # nodes that the summary of a failure names


@dataclass
class Kind:
    """Failures of one kind: where they were raised, or why."""

    line: str
    nodes: list[int] = field(default_factory=list)


class Terminal:
    """Shows and counts."""

    def __init__(self, talks: bool = False, begun: float | None = None) -> None:
        self.app, self.nodes, self.workers, self.seed = "", 0, 0, 0
        self.sent = 0
        self.kinds: dict[str, Kind] = {}
        self._talks, self._progress = talks, ""
        self._begun = time.monotonic() if begun is None else begun

    @property
    def failed(self) -> int:
        """Messages without a good reply."""
        return sum(len(kind.nodes) for kind in self.kinds.values())

    def begin(self, app: str, nodes: int, workers: int, seed: int) -> None:
        """Say what is run."""
        self.app, self.nodes, self.workers, self.seed = app, nodes, workers, seed
        where = _count(workers, "worker") if workers else "in this process"
        if self._talks:
            self.say(f"{app}: {_count(nodes, 'node')}, {where}, seed {seed}")

    def end(self, interrupted: bool) -> None:
        """Say what it came to."""
        told = self.summary()
        how = "stopped after " if interrupted else ""
        failed = f", {self.failed} failed" if self.failed else ""
        speed = f", {told['clients_per_second']:.1f} clients per second"
        self.say(f"{self.app}: {how}{_count(self.sent, 'message')}{failed} in {told['seconds']:.1f} s{speed}")
        for kind in self.kinds.values():
            nodes = sorted(set(kind.nodes))
            named = ", ".join(map(str, nodes[:NAMED])) + (", …" if len(nodes) > NAMED else "")
            self.say(f"  {len(kind.nodes)} failed: {kind.line} (partition-id {named})")

    def summary(self) -> dict[str, Any]:
        """Return what it came to, for `--json`."""
        seconds = time.monotonic() - self._begun
        return {
            "app": self.app,
            "nodes": self.nodes,
            "workers": self.workers,
            "seed": self.seed,
            "seconds": round(seconds, 3),
            "messages": self.sent,
            "failed": self.failed,
            "clients_per_second": round((self.sent - self.failed) / seconds, 2),
        }

    def arrived(self, job: "Job", answer: Answer) -> None:
        """Show what a client printed and how it failed; called in the order asked."""
        self.show(answer.output)
        if answer.failure is not None:
            self._fail(job, answer.failure)

    def expired(self, job: "Job", reason: str) -> None:
        """Count a message that nobody answered in time."""
        self._fail(job, Failure(reason))

    def show(self, output: list[tuple[int, str]]) -> None:
        """Write what a process printed."""
        for stream, text in output:
            self._write(sys.stdout if stream == 1 else sys.stderr, text)

    def say(self, text: str) -> None:
        """Write a line of ours."""
        self._write(sys.stderr, f"{text}\n")

    @contextlib.contextmanager
    def waiting(self, total: int) -> Iterator[Callable[[Callable[[], int]], None]]:
        """Keep a line of progress on an interactive screen while replies are awaited."""
        last = time.monotonic()

        def progress(done: Callable[[], int]) -> None:
            nonlocal last
            now = time.monotonic()
            if total > 1 and now - last >= 0.2 and sys.stderr.isatty():
                last = now
                self._clear()
                self._progress = f"  {done()} of {total} replies" + (f", {self.failed} failed" if self.failed else "")
                sys.stderr.write(self._progress)
                sys.stderr.flush()

        try:
            yield progress
        finally:
            self._clear()

    def _fail(self, job: "Job", failure: Failure) -> None:
        key = failure.place or failure.line
        first = key not in self.kinds
        kind = self.kinds.setdefault(key, Kind(failure.line.splitlines()[-1]))
        kind.nodes.append(job.partition)
        if first:
            told = job.sent.metadata
            number = f"message {job.count + 1} to it"
            who = f"partition-id {job.partition} of {self.nodes} (node {told.dst_node_id})"
            self.say(f'fedjourney: client failed: {who}, "{told.message_type}", {number}')
            self.say((failure.trace or failure.line).rstrip())

    def _write(self, stream: object, text: str) -> None:
        self._clear()
        stream.write(text)  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]

    def _clear(self) -> None:
        if self._progress:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._progress = ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
