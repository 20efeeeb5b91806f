"""The command line: each command is a few lines over a function that can be called from Python."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedjourney import __version__
from fedjourney.errors import FedjourneyError, Interrupted
from fedjourney.simulation import command as simulation

USER_MISTAKE = 2
INTERRUPTED = 130
NOTHING_LEARNED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0 well, 1 nothing was learned, 2 a user's mistake, 130 interrupted."""
    parsed = _parsed(arguments)
    try:
        if getattr(parsed, "data_dir", None) is not None:
            from fedjourney import storage

            storage.root("--data-dir", parsed.data_dir)
        return int(parsed.function(parsed) or 0)
    except FedjourneyError as error:
        print(f"fedjourney: {error}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("\nStopped before anything was begun.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `fedjourney list | head`
        _to_nowhere()
        return 0
    except OSError as error:
        print(f"fedjourney: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        _to_nowhere()
        return USER_MISTAKE


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse; what no command knows is refused with the usage of the command that was given."""
    parser = _parser()
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        (parsed.parser if hasattr(parsed, "parser") else parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    return parsed


def _to_nowhere() -> None:
    """Let what is still to be printed go nowhere, so that the end of the process does not raise again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedjourney",
        description="Federated learning, simulated: one file, many clients, one result you can trust.",
        epilog="Begin with: fedjourney run configs/quickstart.toml",
    )
    parser.add_argument("--version", action="version", version=f"fedjourney {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run an experiment", description="Run an experiment from its beginning.")
    run.add_argument("config", metavar="CONFIG", help="the experiment, a TOML file")
    _settings(run)
    run.add_argument("--data-dir", metavar="DIR", help="root of data sets, looked at first (or FEDJOURNEY_DATA)")
    run.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/<name>-<time>)")
    run.add_argument("--engine", metavar="NAME", help="how clients are computed; never changes the result")
    run.add_argument(
        "--fast", action="store_true", help="measure what is fastest on this machine, and write the choice down"
    )
    _screen(run)
    run.set_defaults(function=_run, parser=run)

    resume = commands.add_parser("resume", help="go on with an interrupted run")
    resume.add_argument("run", metavar="RUN", help="its folder")
    resume.add_argument("--data-dir", metavar="DIR", help="root of data sets, looked at first (or FEDJOURNEY_DATA)")
    _screen(resume)
    resume.set_defaults(function=_resume, parser=resume)

    report = commands.add_parser("report", help="write the report page of one run, or of several together")
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path)
    report.add_argument(
        "--out", metavar="FILE", type=Path, help="default: RUN/report.html; for several: comparison.html beside them"
    )
    report.set_defaults(function=_report, parser=report)

    compare = commands.add_parser(
        "compare",
        help="run a comparison: arms x scenarios x seeds, statistics, a page",
        description="Run a comparison file, or go on with it where it was left.",
    )
    compare.add_argument("file", metavar="FILE", help="the comparison, a TOML file")
    compare.add_argument(
        "--set", metavar="TABLE.KEY=VALUE", action="append", default=[], help="override one setting (repeatable)"
    )
    compare.add_argument("--data-dir", metavar="DIR", help="root of data sets, looked at first (or FEDJOURNEY_DATA)")
    compare.add_argument(
        "--out", metavar="DIR", help="its folder, new or of the same comparison (default: runs/<name>)"
    )
    compare.add_argument("--workers", type=_count, metavar="N", help="runs computed at once; 0: in this process")
    compare.add_argument("--engine", metavar="NAME", help="computes run after run on that engine instead")
    compare.add_argument("--check", action="store_true", help="check and plan every arm, count the runs, compute none")
    _screen(compare)
    compare.set_defaults(function=_compare, parser=compare)

    simulate = commands.add_parser("simulate", help="run any Flower app, unchanged, without Ray")
    simulation.add_arguments(simulate)
    simulate.set_defaults(parser=simulate)

    listing = commands.add_parser("list", help="list what can be named in a config")
    listing.add_argument("kind", metavar="KIND", nargs="?", help="data, partition, model, task, update, …")
    listing.set_defaults(function=_list, parser=listing)

    show = commands.add_parser("show", help="print the resolved experiment, every default written out")
    show.add_argument("config", metavar="CONFIG")
    _settings(show)
    show.set_defaults(function=_show, parser=show)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="TABLE.KEY=VALUE",
        action="append",
        default=[],
        help="override one setting (repeatable); TABLE.KEY= takes out what the file says",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="short for --set experiment.seed=N")


def _screen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one object on the last line")
    parser.add_argument("--quiet", action="store_true", help="print nothing while it runs")


def _load(parsed: argparse.Namespace, engine: str | None = None) -> Any:
    from fedjourney import config

    overrides = list(parsed.set)
    if parsed.seed is not None:
        overrides.append(f"experiment.seed={parsed.seed}")
    return config.load(parsed.config, overrides, engine=engine)


def _run(parsed: argparse.Namespace) -> int:
    experiment = _load(parsed, parsed.engine)
    from fedjourney.experiment import run

    def compute(watch: Any) -> Any:
        return run(experiment, parsed.out, data_dir=parsed.data_dir, watch=watch, fast=parsed.fast)

    return _shown(parsed, compute, experiment)


def _resume(parsed: argparse.Namespace) -> int:
    from fedjourney import config
    from fedjourney.experiment import resume

    file = Path(parsed.run) / "experiment.toml"
    experiment = config.load(file) if file.is_file() else None
    return _shown(parsed, lambda watch: resume(parsed.run, data_dir=parsed.data_dir, watch=watch), experiment)


def _shown(parsed: argparse.Namespace, compute: Any, experiment: Any) -> int:
    """Compute under a screen; tell where the result is, or how to go on."""
    import logging

    from fedjourney.screen import failures, screen

    _end_in_order()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)  # warnings of ours, and what --fast chose
    logging.getLogger("fedjourney").setLevel(logging.WARNING if parsed.quiet else logging.INFO)
    with screen(experiment, quiet=parsed.quiet, plain=parsed.json) as shown:
        try:
            result = compute(shown.round)
        except Interrupted as interrupted:
            said = f"Stopped; every finished round is saved. Go on with: fedjourney resume {interrupted}"
        else:
            said = ""
    if said:
        print(f"\n{said}", file=sys.stderr)
        return INTERRUPTED
    shown.finished(result)
    if parsed.json:
        print(json.dumps(result.summary), flush=True)
    if any(row["clients"]["counted"] for row in result.rounds[1:]):
        return 0
    print(
        "fedjourney: no round counted, nothing was learned.",
        *failures(result.rounds),
        sep="\n",
        file=sys.stderr,
    )
    return NOTHING_LEARNED


def _end_in_order() -> None:
    """Let every polite end be as Ctrl-C: save, say how to go on, end what was started."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


def _compare(parsed: argparse.Namespace) -> int:
    from fedjourney import comparison

    if parsed.check:
        found = comparison.load(parsed.file, parsed.set)
        comparison.check(found, Path(parsed.data_dir) if parsed.data_dir else None)
        print("\n".join(comparison.counted(found)))
        return 0
    from fedjourney.comparison.screen import screen

    _end_in_order()
    with screen(quiet=parsed.quiet, plain=parsed.json) as shown:
        try:
            compared = comparison.compare(
                parsed.file,
                parsed.out,
                overrides=parsed.set,
                data_dir=parsed.data_dir,
                workers=parsed.workers,
                engine=parsed.engine,
                watch=shown.told,
            )
        except Interrupted as interrupted:
            said = f"Stopped; every finished run is saved. Go on with the same command (--out {interrupted})."
        else:
            said = ""
    if said:
        print(f"\n{said}", file=sys.stderr)
        return INTERRUPTED
    shown.finished(compared)
    if parsed.json:
        print(json.dumps(compared.summary), flush=True)
    return 0


def _report(parsed: argparse.Namespace) -> int:
    from fedjourney.report import write_report

    print(write_report(parsed.runs, parsed.out))
    return 0


def _list(parsed: argparse.Namespace) -> int:
    from fedjourney import plugins
    from fedjourney.errors import ConfigError, nearest

    if parsed.kind is not None and parsed.kind not in plugins.KINDS:
        kinds = ", ".join(plugins.KINDS)
        raise ConfigError(f'list: no kind "{parsed.kind}". There are: {kinds}.{nearest(parsed.kind, plugins.KINDS)}')
    for kind in [parsed.kind] if parsed.kind else plugins.KINDS:
        lines = plugins.described(kind)
        print(f"{kind}")
        for name, line in lines.items():
            print(f"  {name:<{max(map(len, lines), default=0)}}  {line}")
    return 0


def _show(parsed: argparse.Namespace) -> int:
    print(_load(parsed).text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
