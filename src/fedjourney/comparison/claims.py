"""Claims: confirmed, refuted, or cannot tell, each cell with its interval."""

import math
from dataclasses import dataclass
from typing import Any

from fedjourney.comparison import statistics
from fedjourney.comparison.design import AXES, Budget, Claim
from fedjourney.comparison.results import Results
from fedjourney.comparison.statistics import Interval
from fedjourney.metrics import lower_is_better

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "cannot tell"
ONE_SIDED = 0.025


@dataclass(frozen=True)
class Judged:
    """A claim in one scenario at one budget.

    Attributes:
        scenario: or both, where it is between two.
        budget: where.
        found: the paired difference (of costs: the ratio) with its interval: 95 %, of an equivalence 90 %; NaN where
            the budget is too small for a single round.
        confirms: p of the claim's opposite.
        refutes: p of the claim.
        note: what is censored.
        seeds: with how many the difference found would be told apart from the claim's margin, at this spread and with
            80 % power; None where a thousand are not enough, or nothing can be said.
    """

    scenario: str
    budget: Budget
    found: Interval
    confirms: float
    refutes: float
    note: str = ""
    seeds: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim over all its cells: confirmed where every one confirms; refuted where one refutes, by Holm over them."""

    claim: Claim
    verdict: str
    registered: bool
    cells: list[Judged]

    @property
    def seeds(self) -> int | None:
        """With how many seeds it would be told, if differences and spread stay as they are; None: a thousand won't do.

        One cell that says the opposite is enough to refute; to confirm, all have to be sure.
        """
        against = [cell.seeds for cell in self.cells if cell.refutes < cell.confirms]
        if against:
            return min((seeds for seeds in against if seeds is not None), default=None)
        every = [cell.seeds for cell in self.cells]
        return None if None in every else max(seeds for seeds in every if seeds is not None)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "name": self.claim.name,
            "says": self.claim.says,
            "verdict": self.verdict,
            "registered": self.registered,
            "seeds_to_tell": self.seeds if self.verdict == UNDECIDED else None,
            "cells": [
                {
                    "scenario": cell.scenario,
                    "budget": {cell.budget.axis: cell.budget.most},
                    "found": cell.found._asdict(),
                    "p_confirms": cell.confirms,
                    "p_refutes": cell.refutes,
                    "note": cell.note,
                    "seeds_to_tell": cell.seeds,
                }
                for cell in self.cells
            ],
        }


def judge(results: Results) -> list[Verdict]:
    """Return the verdict of every claim."""
    return [_verdict(results, claim) for claim in results.comparison.claims]


def _verdict(results: Results, claim: Claim) -> Verdict:
    where = [" against ".join(claim.between)] if claim.between else list(claim.scenarios)
    cells = [_judged(results, claim, scenario, budget) for scenario in where for budget in claim.budgets]
    level = statistics.LEVEL if claim.direction == "equal" else ONE_SIDED
    registered = results.comparison.registered(claim) in results.registered
    if all(cell.confirms <= level for cell in cells):
        return Verdict(claim, CONFIRMED, registered, cells)
    refuted = any(p <= ONE_SIDED for p in statistics.holm([cell.refutes for cell in cells]))
    return Verdict(claim, REFUTED if refuted else UNDECIDED, registered, cells)


def _judged(results: Results, claim: Claim, scenario: str, budget: Budget) -> Judged:
    sides = [(one, claim.arms[0]) for one in claim.between] or [(scenario, arm) for arm in claim.arms]
    idle = [arm for one, arm in sides if any(o.evaluations == 0 for o in results.outcomes(one, arm, budget))]
    if idle:  # an initial model says nothing of an arm
        note = f"no round of {' and '.join(dict.fromkeys(idle))} fits"
        return Judged(scenario, budget, Interval(math.nan, math.nan, math.nan), 1.0, 1.0, note)
    if claim.metric not in AXES:
        left, right = (_values(results, claim.metric, one, arm, budget) for one, arm in sides)
        paired = [a - b for a, b in zip(left, right, strict=True)]
        found, confirms, refutes = tested(paired, claim.direction, claim.margin)
        return Judged(scenario, budget, found, confirms, refutes, seeds=wanted(paired, claim.direction, claim.margin))
    (left, missed), (right, lost) = (_costs(results, claim, one, arm, budget) for one, arm in sides)
    paired = [math.log(max(a, 1e-9) / max(b, 1e-9)) for a, b in zip(left, right, strict=True)]
    found, confirms, refutes = tested(paired, claim.direction, math.log(claim.ratio))
    # a cost that is censored is at least what is known: it can only speak for "greater", or against "less"
    note, seeds = "", wanted(paired, claim.direction, math.log(claim.ratio))
    if missed or lost:
        seeds = None
        note = f"target missed by {missed} of {len(left)} and {lost} of {len(right)}"
        up, down = (confirms, refutes) if claim.direction == "greater" else (refutes, confirms)
        up, down = (1.0 if lost else up), (1.0 if missed else down)
        confirms, refutes = (up, down) if claim.direction == "greater" else (down, up)
        confirms = 1.0 if claim.direction == "equal" else confirms
        refutes = 1.0 if claim.direction == "equal" else refutes
    return Judged(scenario, budget, Interval(*(math.exp(one) for one in found)), confirms, refutes, note, seeds)


def tested(paired: list[float], direction: str, margin: float) -> tuple[Interval, float, float]:
    """Return the interval, the p of the claim's opposite, and the p of the claim.

    "greater": the mean is above the margin, or below it; "less": below -margin, or above it; "equal": within ± margin
    by two one-sided tests, or outside of it.
    """
    if direction == "greater":
        return statistics.interval(paired), statistics.above(paired, margin), statistics.below(paired, margin)
    if direction == "less":
        return statistics.interval(paired), statistics.below(paired, -margin), statistics.above(paired, -margin)
    outside = min(statistics.above(paired, margin), statistics.below(paired, -margin))
    return statistics.interval(paired, 1 - 2 * statistics.LEVEL), statistics.equivalence(paired, margin), outside


def wanted(paired: list[float], direction: str, margin: float) -> int | None:
    """Return how many seeds would tell on which side of the claim's margin the mean lies, if it stays where it is."""
    if len(paired) < 2 or not all(map(math.isfinite, paired)):
        return None
    mean, sd = statistics.total(paired) / len(paired), statistics.spread(paired)
    edge = {"greater": margin, "less": -margin, "equal": math.copysign(margin, mean)}[direction]
    return statistics.seeds_for(abs(mean - edge) / sd if sd else math.inf)


def _values(results: Results, metric: str, scenario: str, arm: str, budget: Budget) -> list[float]:
    if metric == results.comparison.metric:
        return results.values(scenario, arm, budget)
    from fedjourney.comparison.outcome import read

    return [read(trace.cell, metric).at(budget).value for trace in results.of(scenario, arm, budget)]


def _costs(results: Results, claim: Claim, scenario: str, arm: str, budget: Budget) -> tuple[list[float], int]:
    """Return what each seed cost, and how many missed the target within the budget."""
    if claim.target is None:
        return [outcome.paid[claim.metric] for outcome in results.outcomes(scenario, arm, budget)], 0
    lower, costs, missed = lower_is_better(results.comparison.metric), [], 0
    for trace in results.of(scenario, arm, budget):
        paid, reached = trace.reach(claim.target, claim.metric, lower, budget)
        costs.append(paid)
        missed += not reached
    return costs, missed
