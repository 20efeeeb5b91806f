"""Comparisons: a base experiment, named arms, scenarios, seeds; one command, statistics and a page.

file → every arm planned → tuning trials (validation alone) → claims registered → evaluation runs → results, page.
Each cell is a run folder; what is finished is never computed again.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedjourney.comparison import cells, claims, pool, rules, tuning
from fedjourney.comparison.cells import Cell
from fedjourney.comparison.design import AXES, DEFAULT, Budget, Comparison
from fedjourney.comparison.file import is_comparison, load
from fedjourney.comparison.outcome import Trace, read
from fedjourney.comparison.results import Place, Results
from fedjourney.errors import ConfigError, Interrupted, RunError, nearest
from fedjourney.storage import write_atomically

__all__ = ["Compared", "Watch", "check", "compare", "counted", "is_comparison", "load"]

Watch = Callable[[str, Cell, dict[str, Any], int, int], None]
"""(stage, cell, what it says, cells done, cells in all of the stage)."""
REGISTRATION = "registration.json"


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    Attributes:
        folder: where everything was written.
        page: the report.
        results: everything that came out.
        verdicts: of the claims.
        summary: what `--json` prints.
    """

    folder: Path
    page: Path
    results: Results
    verdicts: list[claims.Verdict]
    summary: dict[str, Any]


def compare(
    path: str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    workers: int | None = None,
    engine: str | None = None,
    watch: Watch | None = None,
) -> Compared:
    """Run a comparison file, or go on with it, and write its page.

    Args:
        path: the comparison, a TOML file.
        out: its folder; one that holds the same comparison is gone on with. Default `runs/<name>`.
        overrides: `table.key=value`.
        data_dir: root of data sets, looked at first (default: FEDJOURNEY_DATA).
        workers: cells computed at once, each in a process of its own; 0: one by one in this process. Default: as many
            as there are processors.
        engine: computes the cells one by one on that engine instead. Neither changes a bit.
        watch: told of every evaluated round and every finished cell.

    Raises:
        FedjourneyError: the file, the data or the folder cannot be used; a cell cannot be run.
    """
    comparison = load(path, overrides)
    root = None if data_dir is None else Path(data_dir).resolve()
    check(comparison, root)
    folder = Path(out) if out is not None else Path("runs") / comparison.name
    if workers is None:
        workers = 0 if engine else _processors()
    work = _Work(comparison, folder, root, workers, engine or "serial", watch or (lambda *told: None))
    with _begun(folder):
        try:
            return work.all()
        except KeyboardInterrupt:
            raise Interrupted(folder) from None


def counted(comparison: Comparison) -> list[str]:
    """Return how many runs a comparison is, as lines."""
    arms, scenarios = len(comparison.arms), len(comparison.scenarios)
    lines = [f"{arms} arms x {scenarios} scenarios x {len(comparison.seeds)} seeds: at least "]
    lines[0] += f"{arms * scenarios * len(comparison.seeds)} runs"
    if comparison.settings_from is not None:
        lines.append(f"tuning: none, settings of {comparison.settings_from}")
    elif comparison.tuning is not None:
        tuned = sum(len(tuning.trials(comparison, arm)) for arm in comparison.arms)
        lines.append(f"tuning: {tuned * scenarios * len(comparison.tuning.seeds)} runs")
    return [*lines, f"{len(comparison.claims)} claims"]


def check(comparison: Comparison, root: Path | None = None) -> None:
    """Plan every arm in every scenario, before any work, and hold them to one start.

    Raises:
        FedjourneyError: an arm cannot be run, or would not see what the others see.
    """
    from fedjourney.plan import plan

    if comparison.settings_from is not None:
        tuning.taken(comparison, comparison.settings_from)
    seed, kept = comparison.seeds[0], {}
    for scenario in comparison.scenarios:
        starts: dict[str, str] = {}
        for arm in comparison.arms.values():
            experiment = comparison.experiment(arm.name, scenario, seed)
            key = json.dumps([experiment["data"], experiment["partition"]])
            if key not in kept:
                built = plan(experiment, root)
                kept[key] = (built.dataset, built.shards)
            else:
                built = plan(experiment, root, kept[key])
            _measurable(comparison, arm.metric, built, experiment.where)
            if arm.paired:
                starts[arm.name] = cells.start(built)
        _same(starts, f"{comparison.where}[scenarios.{scenario}]")


def _measurable(comparison: Comparison, own: str, built: Any, where: str) -> None:
    """Refuse a metric that the task does not have or nobody measures, and tuning without validation examples."""
    dataset, task = built.dataset, built.task
    metrics = list(task.summary(task.evaluate(task.init(0), dataset.test.cut(slice(0, 2)))))
    for metric in (comparison.metric, *(claim.metric for claim in comparison.claims if claim.metric not in AXES)):
        if metric not in metrics:
            raise ConfigError(
                f"{where}metric: the task measures no {metric}. There are: {', '.join(metrics)}."
                f"{nearest(metric, metrics)}"
            )
    if own and (own.removeprefix("personal/") not in metrics or built.personal is None):
        raise ConfigError(f"{where}metric: expected a strategy whose clients have models of their own, got {own!r}.")
    if own and not built.experiment["experiment"]["holdout"]:
        raise ConfigError(f"{where}experiment.holdout: expected a share to measure {own} on, got 0. Raise it.")
    wanted = comparison.tuning or comparison.targets or any(claim.target is not None for claim in comparison.claims)
    if wanted and len(dataset.validation) == 0:
        raise ConfigError(f"{where}data: expected validation examples for tuning and targets, got none.")


def _same(starts: dict[str, str], place: str) -> None:
    """Refuse arms that do not begin alike.

    Raises:
        ConfigError: names two of them.
    """
    first = next(iter(starts), "")
    for arm, found in starts.items():
        if found != starts[first]:
            raise ConfigError(
                f"{place} expected every arm to see the same data, shards, cohorts and initial parameters, but {arm} "
                f"does not begin as {first} does. Move what differs to [scenarios], or say paired = false."
            )


class _Work:
    def __init__(
        self, comparison: Comparison, folder: Path, root: Path | None, workers: int, engine: str, watch: Watch
    ) -> None:
        self.comparison, self.folder, self.root = comparison, folder, root
        self.workers, self.engine, self.watch = workers, engine, watch
        self.traces: dict[Place, Trace] = {}

    def all(self) -> Compared:
        """Tune, register, evaluate, tell."""
        comparison, winners = self.comparison, {}
        if comparison.settings_from is not None:
            winners = tuning.taken(comparison, comparison.settings_from)
        elif comparison.tuning is not None:
            self._compute("tuning", self._trials())
            winners = tuning.choose(comparison, self.traces)
        registered = self._register()
        results = Results(comparison, self.traces, winners, registered)
        self._compute("evaluation", self._evaluation(results))
        return self._told(results)

    def _trials(self) -> Iterable[Cell]:
        comparison = self.comparison
        assert comparison.tuning is not None
        for trial in range(comparison.tuning.trials + 1):
            for seed in comparison.tuning.seeds:
                for scenario in comparison.scenarios:
                    for arm in comparison.arms:
                        if trial in tuning.trials(comparison, arm):
                            yield self._cell(scenario, arm, trial, seed, comparison.budgets)

    def _evaluation(self, results: Results) -> Iterable[Cell]:
        """Yield the evaluation runs, seed by seed, so that what is interrupted is balanced."""
        comparison = self.comparison
        for seed in comparison.seeds:
            for scenario in comparison.scenarios:
                for arm in comparison.arms:
                    wanted: dict[str, list[Budget]] = {}
                    for budget in comparison.budgets:
                        wanted.setdefault(results.setting(scenario, arm, budget), []).append(budget)
                    for setting, budgets in wanted.items():
                        trial = 0 if setting == DEFAULT else int(setting.removeprefix("trial-"))
                        yield self._cell(scenario, arm, trial, seed, tuple(budgets))

    def _cell(self, scenario: str, arm: str, trial: int, seed: int, budgets: tuple[Budget, ...]) -> Cell:
        comparison, setting = self.comparison, tuning.setting_name(trial)
        experiment = comparison.experiment(arm, scenario, seed, comparison.setting(arm, trial), self.engine)
        folder = (self.folder / "cells" / scenario / arm / setting / str(seed)).resolve()
        return Cell(arm, scenario, setting, seed, experiment.text(), str(comparison.base_dir), str(folder), budgets)

    def _compute(self, stage: str, wanted: Iterable[Cell]) -> None:
        """Compute what is not there yet, read all of it, and hold arms of one seed to one start."""
        every = list(wanted)
        todo = [cell for cell in every if not cells.done(cell)]
        count = len(every) - len(todo)

        def told(cell: Cell, said: dict[str, Any]) -> None:
            nonlocal count
            if "done" in said:
                count += 1
                trace = read(cell, self.comparison.measures(cell.arm))
                said = said | {"points": len(trace.points), "last": trace.points[-1]}
            self.watch(stage, cell, said, count, len(every))

        pool.compute(todo, self.workers, self.root, told)
        for cell in every:
            place = (cell.scenario, cell.arm, cell.setting, cell.seed)
            self.traces[place] = read(cell, self.comparison.measures(cell.arm))
        for scenario, seed in dict.fromkeys((cell.scenario, cell.seed) for cell in every):
            starts = {
                f"{arm} ({setting})": trace.start
                for (one, arm, setting, other), trace in self.traces.items()
                if (one, other) == (scenario, seed) and self.comparison.arms[arm].paired
            }
            _same(starts, f"seed {seed}, [scenarios.{scenario}]")

    def _register(self) -> frozenset[str]:
        """Write the claims' hashes before the first evaluation run; return those that were in time."""
        path = self.folder / REGISTRATION
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"claims": {}, "evaluated": False}
        if not known["evaluated"]:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            hashes = {claim.name: self.comparison.registered(claim) for claim in self.comparison.claims}
            known = {"claims": hashes, "time": now, "evaluated": True}
            write_atomically(path, json.dumps(known, indent=1).encode())
        return frozenset(known["claims"].values())

    def _told(self, results: Results) -> Compared:
        from fedjourney.comparison.page import page_of
        from fedjourney.results import valid_json

        verdicts, comparison = claims.judge(results), self.comparison
        summary = valid_json(
            {
                "comparison": comparison.name,
                "folder": str(self.folder),
                "page": str(self.folder / "comparison.html"),
                "status": rules.status(results),
                "metric": comparison.metric,
                "claims": [verdict.plain() for verdict in verdicts],
                "rules_not_met": rules.unmet(results),
                "budgets": [
                    {
                        "scenario": scenario,
                        "budget": {budget.axis: budget.most},
                        "arms": {arm: results.row(scenario, arm, budget) for arm in comparison.arms},
                        "differences": results.differences(scenario, budget),
                    }
                    for scenario in comparison.scenarios
                    for budget in comparison.budgets
                ],
            }
        )
        write_atomically(self.folder / "results.json", json.dumps(summary, indent=1).encode())
        page = self.folder / "comparison.html"
        write_atomically(page, page_of(results, verdicts).encode("utf-8", errors="replace"))
        return Compared(self.folder, page, results, verdicts, summary)


class _begun:  # noqa: N801 (used as a function)
    """Be the only process that works on a comparison's folder; its file is copied there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        folder = self._folder
        try:
            if folder.exists() and (not folder.is_dir() or _foreign(folder)):
                raise RunError(
                    f"{folder}: expected a new or empty folder, or a comparison's, got another. Choose another --out."
                )
            (folder / "cells").mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock", timeout=0)
            self._lock.acquire()
        except Timeout:
            raise RunError(
                f"{folder}: another process is at work on this comparison. Wait for it, or end it."
            ) from None
        except OSError as error:
            raise RunError(f"{folder}: cannot be written ({error.strerror}). Choose another --out.") from None

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


def _foreign(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return bool(names) and "cells" not in names


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
