"""All cells of a comparison together: who had which setting, every arm at every budget, paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedjourney.comparison import statistics
from fedjourney.comparison.design import Budget, Comparison
from fedjourney.comparison.outcome import Outcome, Trace
from fedjourney.metrics import lower_is_better

Place = tuple[str, str, str, int]
"""(scenario, arm, setting, seed)."""


@dataclass(frozen=True)
class Winner:
    """What tuning chose for an arm in a scenario at a budget.

    Attributes:
        setting: its name, "default" or "trial-3".
        values: what it sets.
        edges: what it set in the outermost tenth of its range.
        scores: validation of every trial, the default's first.
    """

    setting: str
    values: Mapping[str, float]
    edges: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True)
class Results:
    """Everything that came out.

    Attributes:
        comparison: the file.
        traces: by place.
        winners: (scenario, arm, budget) -> what tuning chose; empty without tuning.
        registered: claims whose hash was on disk before the first evaluation run.
    """

    comparison: Comparison
    traces: Mapping[Place, Trace]
    winners: Mapping[tuple[str, str, Budget], Winner]
    registered: frozenset[str]

    def setting(self, scenario: str, arm: str, budget: Budget) -> str:
        """Return the setting that an arm is judged with."""
        winner = self.winners.get((scenario, arm, budget))
        return winner.setting if winner else "default"

    def of(self, scenario: str, arm: str, budget: Budget) -> list[Trace]:
        """Return the evaluation runs of an arm, in the order of seeds."""
        setting = self.setting(scenario, arm, budget)
        return [self.traces[scenario, arm, setting, seed] for seed in self.comparison.seeds]

    def outcomes(self, scenario: str, arm: str, budget: Budget) -> list[Outcome]:
        """Return what they came to, in the order of seeds."""
        return [trace.at(budget) for trace in self.of(scenario, arm, budget)]

    def values(self, scenario: str, arm: str, budget: Budget) -> list[float]:
        """Return their numbers."""
        return [outcome.value for outcome in self.outcomes(scenario, arm, budget)]

    def against(self, arm: str) -> str:
        """Return the arm another one is compared with: its twin, or the reference."""
        return self.comparison.arms[arm].twin or self.comparison.reference

    @property
    def lower(self) -> bool:
        """Whether less of the metric is more."""
        return lower_is_better(self.comparison.metric)

    def row(self, scenario: str, arm: str, budget: Budget) -> dict[str, Any]:
        """Return an arm at a budget as plain numbers."""
        outcomes = self.outcomes(scenario, arm, budget)
        values = [outcome.value for outcome in outcomes]
        mean, low, high = statistics.interval(values)
        one = self.comparison.arms[arm]
        told = {"beside": one.beside, "metric": self.comparison.measures(arm)} if one.beside else {}
        return told | {
            "mean": mean,
            "spread": statistics.spread(values),
            "low": low,
            "high": high,
            "values": values,
            "seeds": len(values),
            "setting": self.setting(scenario, arm, budget),
            "values_set": dict(winner.values) if (winner := self.winners.get((scenario, arm, budget))) else {},
            "diverged": sum(outcome.diverged for outcome in outcomes),
            "short": sum(outcome.short for outcome in outcomes),
            "evaluations": min(outcome.evaluations for outcome in outcomes),
            "paid": {
                axis: sum(outcome.paid[axis] for outcome in outcomes) / len(outcomes) for axis in outcomes[0].paid
            },
        }

    def differences(self, scenario: str, budget: Budget) -> dict[str, dict[str, Any]]:
        """Return each arm less what it is compared with, paired by seed; p adjusted by Holm over arms."""
        found: dict[str, dict[str, Any]] = {}
        for arm in self.comparison.contest:
            other = self.against(arm)
            if arm == other:
                continue
            pairs = zip(self.values(scenario, arm, budget), self.values(scenario, other, budget), strict=True)
            paired = [mine - theirs for mine, theirs in pairs]
            mean, low, high = statistics.interval(paired)
            sd = statistics.spread(paired)
            found[arm] = {
                "against": other,
                "mean": mean,
                "low": low,
                "high": high,
                "p": statistics.two_sided(paired),
                "detectable": statistics.detectable(len(paired)) * sd if len(paired) > 1 else None,
            }
        adjusted = statistics.holm([one["p"] for one in found.values()])
        for one, p in zip(found.values(), adjusted, strict=True):
            one["holm"] = p
        return found

    def best(self, scenario: str, budget: Budget) -> tuple[str, list[str]]:
        """Return the arm with the best mean, and those that cannot be told from it (Holm, 5 %)."""
        means = {arm: statistics.interval(self.values(scenario, arm, budget)).mean for arm in self.comparison.contest}
        first = (min if self.lower else max)(means, key=lambda arm: means[arm])
        others = [arm for arm in means if arm != first]
        top = self.values(scenario, first, budget)
        ps = []
        for arm in others:
            mine = self.values(scenario, arm, budget)
            ps.append(statistics.two_sided([a - b for a, b in zip(top, mine, strict=True)]))
        return first, [arm for arm, p in zip(others, statistics.holm(ps), strict=True) if p > statistics.LEVEL]
