"""Cells side by side, each computed in a process of its own."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fedjourney import errors
from fedjourney.comparison import cells
from fedjourney.comparison.cells import Cell
from fedjourney.environment import worker_environment
from fedjourney.errors import RunError

Told = Callable[[Cell, dict[str, Any]], None]
"""(cell, what it says): a round that was evaluated, or `{"done": True}`."""


def compute(wanted: Iterable[Cell], workers: int, data_root: Path | None, told: Told) -> None:
    """Compute cells, `workers` at a time; with 0 one after the other in this process.

    Raises:
        FedjourneyError: a cell cannot be computed; those finished stay finished.
    """
    todo = list(wanted)
    if workers == 0:
        for cell in todo:
            cells.compute(cell, data_root, lambda row, paid, cell=cell: told(cell, _said(row, paid)))  # type: ignore[misc]
            told(cell, {"done": True})
        return
    _Pool(workers, data_root, told).compute(todo)


def _said(row: dict[str, Any], paid: dict[str, float]) -> dict[str, Any]:
    return {"round": row["round"], "paid": paid, "test": row["test"]}


class _Pool:
    def __init__(self, workers: int, data_root: Path | None, told: Told) -> None:
        self._workers, self._told = workers, told
        self._command = [sys.executable, "-m", "fedjourney.comparison._worker"]
        self._command += [str(data_root)] if data_root else []
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._processes: list[subprocess.Popen[str]] = []

    def compute(self, todo: list[Cell]) -> None:
        todo, busy = todo[::-1], {}  # place of a worker -> its cell
        try:
            for place in range(min(self._workers, len(todo))):
                self._start(place)
                busy[place] = self._give(place, todo.pop())
            while busy:
                place, said = self._said.get()
                cell = busy[place]
                if said is None:
                    code = self._processes[place].wait()
                    raise RunError(
                        f"{cell.title}: its process ended with {code}. Is there memory enough for {self._workers} at "
                        "once? Go on with the same command, perhaps with fewer --workers."
                    )
                if "error" in said:
                    raise getattr(errors, said["error"], RunError)(said["message"])
                self._told(cell, said)
                if "done" in said:
                    del busy[place]
                    if todo:
                        busy[place] = self._give(place, todo.pop())
        finally:
            for process in self._processes:
                assert process.stdin
                with contextlib.suppress(OSError):  # it has ended already
                    process.stdin.close()  # a worker ends with its input
            for process in self._processes:
                process.wait()

    def _start(self, place: int) -> None:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=worker_environment(1)
        )
        self._processes.append(process)
        threading.Thread(target=self._listen, args=(place, process), daemon=True).start()

    def _listen(self, place: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self._said.put((place, json.loads(line)))
        self._said.put((place, None))

    def _give(self, place: int, cell: Cell) -> Cell:
        stdin = self._processes[place].stdin
        assert stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: who listens to it says so
            stdin.write(cell.encode() + "\n")
            stdin.flush()
        return cell
