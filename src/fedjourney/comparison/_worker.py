"""A process that computes cells, one a line of standard input; what it tells goes line by line to standard output."""

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Compute until standard input ends, which the parent holds open as long as it lives; then end, whatever runs."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints meanwhile must not stand among the answers
    waiting: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(waiting,), daemon=True).start()
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    from fedjourney.comparison import cells
    from fedjourney.errors import FedjourneyError

    def tell(**said: Any) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    def watch(row: dict[str, Any], paid: dict[str, float]) -> None:
        if row["test"]:
            tell(round=row["round"], paid=paid, test=row["test"])

    while True:
        cell = cells.Cell.decode(waiting.get())
        try:
            cells.compute(cell, root, watch)
        except FedjourneyError as error:
            tell(error=type(error).__name__, message=str(error))
        except Exception:
            tell(error="RunError", message=f"{cell.title}: {traceback.format_exc()}")
        else:
            tell(done=True)


def _read(waiting: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        waiting.put(line)
    os._exit(1)


if __name__ == "__main__":
    main()
