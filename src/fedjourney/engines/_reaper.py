"""End every process of one launcher when the launcher closes the pipe, or dies.

`python -I _reaper.py MARK FOLDER` waits until its standard input ends. Then it ends every process in whose
environment `FEDJOURNEY_MARK` is MARK, and their descendants: SIGTERM, a few seconds later SIGKILL. At last it
removes FOLDER. The environment is what finds them: Flower starts its helpers in sessions of their own, so
neither a process group nor the pids that we started would do. A launcher killed by SIGKILL closes its pipe
too, so nothing is left behind even then.

Needs /proc (Linux). Elsewhere it ends only the pids that were written to its standard input, one a line;
Flower's own helpers then end because they watch their parents.
Imports nothing but the standard library: it must start in no time and outlive everything.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

VARIABLE = "FEDJOURNEY_MARK"
PATIENCE = 5.0  # seconds between SIGTERM and SIGKILL

Process = tuple[int, str]  # pid and start time: a pid alone may be given to somebody else meanwhile


def main(mark: str, folder: str) -> None:
    """Wait for the end of standard input, end what carries the mark, remove the folder."""
    os.setsid()  # Ctrl-C in the terminal is for the launcher, not for us
    started = [int(line) for line in sys.stdin if line.strip()]
    found: set[Process] = set()
    deadline = time.monotonic() + PATIENCE
    told: set[Process] = set()
    while alive := _living(mark, started, found):
        found |= alive
        late = time.monotonic() > deadline
        for process in alive if late else alive - told:
            _signal(process[0], signal.SIGKILL if late else signal.SIGTERM)
        told |= alive
        if time.monotonic() > deadline + PATIENCE:
            sys.exit(f"could not end the processes {sorted(pid for pid, _ in alive)}")
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _living(mark: str, started: list[int], found: set[Process]) -> set[Process]:
    """Return the processes that still live: marked ones, those found before, and all their descendants."""
    if not Path("/proc/self/environ").exists():
        return {(pid, "") for pid in started if _signal(pid, 0)}
    wanted = f"{VARIABLE}={mark}".encode()
    parents: dict[int, int] = {}
    times: dict[int, str] = {}
    chosen: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        if fields[0] == "Z":
            continue
        pid = int(entry.name)
        parents[pid], times[pid] = int(fields[1]), fields[19]
        if wanted in environment or (pid, fields[19]) in found:
            chosen.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= more
    return {(pid, times[pid]) for pid in chosen}


def _signal(pid: int, number: int) -> bool:
    """Send a signal (0: only look whether it lives)."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)
        return True
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
