"""The command `fedjourney simulate`."""

import argparse
import json
import sys
import time
from typing import Any

FAILED, INTERRUPTED = 1, 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("app", metavar="APP_DIR", help="the app's folder, where its pyproject.toml is")
    parser.add_argument("--nodes", type=int, metavar="N", help="simulated nodes (default: as the app says, else 10)")
    parser.add_argument(
        "-c",
        "--run-config",
        metavar="CONFIG",
        action="append",
        help="over the app's own: 'key=value key2=\"text\"', or a TOML file (repeatable)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="W",
        help="processes, one thread each; 0: in this process, where a breakpoint stops (default: one a processor)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the result as one object on the last line")
    parser.set_defaults(function=simulate)


def simulate(parsed: argparse.Namespace) -> int:
    """Run the app; return 0, 1 where it failed, 130 where it was interrupted."""
    begun = time.monotonic()
    from fedjourney.simulation.pool import AppError
    from fedjourney.simulation.run import run
    from fedjourney.simulation.terminal import Terminal

    terminal = Terminal(talks=True, begun=begun)
    told: dict[str, Any] = {}
    status = 0
    try:
        result = run(
            parsed.app,
            nodes=parsed.nodes,
            run_config=parsed.run_config,
            workers=parsed.workers,
            seed=parsed.seed,
            terminal=terminal,
        )
        told = {"metrics": result.metrics} if result.metrics else {}
    except AppError as error:
        terminal.say(error.trace.rstrip() or str(error))
        terminal.say(f"fedjourney: {error}")
        told, status = {"error": str(error)}, FAILED
    except KeyboardInterrupt:
        told, status = {"error": "interrupted"}, INTERRUPTED
    if terminal.sent and terminal.failed == terminal.sent:
        status = status or FAILED  # a strategy that ignores failures has nothing left to go on with
    terminal.end(interrupted=status == INTERRUPTED)
    if parsed.json:
        print(json.dumps(terminal.summary() | told), file=sys.stdout, flush=True)
    return status
