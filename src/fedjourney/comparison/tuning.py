"""Equal tuning: the same number of random trials for every arm, on seeds of their own, judged on validation alone."""

import math
from collections.abc import Mapping

from fedjourney.comparison.design import DEFAULT, Budget, Comparison
from fedjourney.comparison.outcome import Trace
from fedjourney.comparison.results import Place, Winner
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


def _score(
    comparison: Comparison, traces: Mapping[Place, Trace], scenario: str, arm: str, trial: int, budget: Budget
) -> float:
    assert comparison.tuning is not None
    name = setting_name(trial)
    outcomes = [traces[scenario, arm, name, seed].at(budget, "validation") for seed in comparison.tuning.seeds]
    return math.fsum(outcome.value for outcome in outcomes) / len(outcomes)


def edges_of(comparison: Comparison, arm: str, values: Mapping[str, float]) -> list[str]:
    """Return what stands in the outermost tenth of its range: the best may lie beyond."""
    found = []
    for path, value in values.items():
        low, high = comparison.arms[arm].ranges[path]
        share = math.log(value / low) / math.log(high / low)
        if not EDGE < share < 1 - EDGE:
            found.append(path)
    return found
