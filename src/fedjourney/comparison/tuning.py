"""Equal tuning: the same number of random trials for every arm, on seeds of their own, judged on validation alone."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjourney.comparison.design import DEFAULT, Budget, Comparison
from fedjourney.comparison.outcome import Trace
from fedjourney.comparison.results import Place, Winner
from fedjourney.comparison.statistics import total
from fedjourney.errors import ConfigError
from fedjourney.metrics import lower_is_better

EDGE = 0.1  # of a range, on its logarithmic scale, at either end


def setting_name(trial: int) -> str:
    """Return how a trial is called; 0 is the arm as it stands in the file."""
    return f"trial-{trial}" if trial else DEFAULT


def trials(comparison: Comparison, arm: str) -> range:
    """Return the trials of an arm: one that has nothing to tune runs as it is."""
    assert comparison.tuning is not None
    return range(comparison.tuning.trials + 1) if comparison.arms[arm].ranges else range(0)


def choose(comparison: Comparison, traces: Mapping[Place, Trace]) -> dict[tuple[str, str, Budget], Winner]:
    """Return for each scenario, arm and budget the trial whose validation is best in the mean over tuning seeds.

    A run's beginning does not depend on how long it lasts, so one run to the largest budget tells of all.
    """
    found = {}
    for scenario in comparison.scenarios:
        for arm in comparison.arms:
            for budget in comparison.budgets:
                scores = [_score(comparison, traces, scenario, arm, trial, budget) for trial in trials(comparison, arm)]
                if not scores:
                    continue
                best = min(scores) if lower_is_better(comparison.metric) else max(scores)
                trial = scores.index(best)
                values = comparison.setting(arm, trial)
                edges = edges_of(comparison, arm, values)
                found[scenario, arm, budget] = Winner(setting_name(trial), values, edges, scores)
    return found


def taken(comparison: Comparison, source: Path) -> dict[tuple[str, str, Budget], Winner]:
    """Return what an earlier comparison of the same arms chose, as its `results.json` tells.

    Raises:
        ConfigError: it cannot be read, has no such arm, scenario or budget, or was tuned over other ranges.
    """
    place = f"{comparison.where}[tuning] from: expected the results.json of a comparison of the same arms"
    try:
        told = json.loads(source.read_text(encoding="utf-8"))["budgets"]
        rows = {(one["scenario"], *next(iter(one["budget"].items()))): one["arms"] for one in told}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise ConfigError(f"{place}, got {source} ({type(error).__name__}: {error}).") from None
    found = {}
    for scenario in comparison.scenarios:
        for arm in comparison.arms:
            for budget in comparison.budgets if trials(comparison, arm) else ():
                row = rows.get((scenario, budget.axis, budget.most), {}).get(arm, {})
                name = re.fullmatch(r"default|trial-(\d+)", str(row.get("setting")))
                if name is None:
                    raise ConfigError(
                        f"{place}, got {source}, which tells of no {arm} in {scenario} at {budget.axis} "
                        f"{budget.most:g}. Take another, or remove `from` to tune."
                    )
                values = comparison.setting(arm, int(name[1] or 0))
                if row.get("values_set", values) != values:
                    raise ConfigError(
                        f"{place}, got {source}, where {name[0]} of {arm} set {_set(row['values_set'])}, and here "
                        f"{_set(values)}: its ranges are others."
                    )
                found[scenario, arm, budget] = Winner(name[0], values, edges_of(comparison, arm, values), ())
    return found


def _set(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {value}" for path, value in values.items()) or "nothing"


def _score(
    comparison: Comparison, traces: Mapping[Place, Trace], scenario: str, arm: str, trial: int, budget: Budget
) -> float:
    assert comparison.tuning is not None
    name = setting_name(trial)
    outcomes = [traces[scenario, arm, name, seed].at(budget, "validation") for seed in comparison.tuning.seeds]
    return total(outcome.value for outcome in outcomes) / len(outcomes)


def edges_of(comparison: Comparison, arm: str, values: Mapping[str, float]) -> list[str]:
    """Return what stands in the outermost tenth of its range: the best may lie beyond."""
    found = []
    for path, value in values.items():
        low, high = comparison.arms[arm].ranges[path]
        share = math.log(value / low) / math.log(high / low)
        if not EDGE < share < 1 - EDGE:
            found.append(path)
    return found
