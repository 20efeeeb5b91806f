"""What a comparison is, once its file is checked: arms, scenarios, seeds, budgets, tuning, claims."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from fedjourney import config, plugins
from fedjourney.config import Experiment
from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for

Axis: TypeAlias = Literal["rounds", "bytes", "evaluations"]
AXES: dict[str, str] = {
    "rounds": "rounds",
    "bytes": "bytes per client, up and down",
    "evaluations": "forward-equivalents per client",
}
DEFAULT = "default"  # the setting that an arm has in the file


class Budget(NamedTuple):
    """So much of one axis, per client of the cohort."""

    axis: str
    most: float


class Range(NamedTuple):
    """What is tuned, log-uniformly; whole numbers where both ends are."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> float:
        """Return the value a share of the way from the low end to the high one, on a logarithmic scale."""
        value = float(self.low) * (float(self.high) / float(self.low)) ** share
        return min(max(round(value), int(self.low)), int(self.high)) if self.whole else float(f"{value:.4g}")


@dataclass(frozen=True)
class Arm:
    """One way to do it.

    Attributes:
        name: in the file.
        tables: what it changes in the base experiment.
        twin: the arm it is compared with first (an evolution strategy's gradient twin), or "".
        ranges: "table.key" -> what is tuned.
        paired: whether it must see the shards, cohorts and initial parameters of the others.
        beside: "floor", "ceiling" or "control" where it only stands beside the others: it is told, never ranked, named
            by no claim and part of no registration, so that it can be added later. "": one of those compared.
        metric: of each client's own model ("personal/accuracy"), in place of the comparison's; "" = the comparison's.
    """

    name: str
    tables: Mapping[str, Any]
    twin: str = ""
    ranges: Mapping[str, Range] = field(default_factory=dict)
    paired: bool = True
    beside: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Tuning:
    """Trials per arm and scenario, on seeds of their own; selection on validation.

    With `source`, the `results.json` of a comparison that was tuned so, its settings are taken and nothing is tuned.
    """

    trials: int
    seeds: Sequence[int]
    source: Path | None = None


@dataclass(frozen=True)
class Claim:
    """What somebody expects, written down before it is known.

    Attributes:
        name: a word or two.
        says: the sentence.
        arms: the first is held against the second; one alone with `between`.
        metric: of the test set, or a cost ("rounds", "bytes", "evaluations").
        direction: whether the first is "greater", "less" or "equal".
        margin: of a metric, in its own unit; the first is greater by more than that (below 0: not worse by more), or
            equal within it.
        ratio: of a cost, at least 1, in place of a margin.
        target: of a cost: what validation must reach; None: the cost is what was spent at the budget.
        budgets: where it holds.
        scenarios: where it holds.
        between: two scenarios; one arm in the first of them is held against itself in the second.
    """

    name: str
    says: str
    arms: tuple[str, ...]
    metric: str
    direction: str
    margin: float
    ratio: float
    target: float | None
    budgets: tuple[Budget, ...]
    scenarios: tuple[str, ...]
    between: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A checked comparison file."""

    name: str
    says: str
    metric: str
    seeds: tuple[int, ...]
    reference: str
    targets: tuple[float, ...]
    base: Mapping[str, Any]
    arms: Mapping[str, Arm]
    scenarios: Mapping[str, Mapping[str, Any]]
    budgets: tuple[Budget, ...]
    tuning: Tuning | None
    claims: tuple[Claim, ...]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    where: str = field(default="", compare=False)
    base_dir: Path = field(default_factory=Path, compare=False)
    command: str = field(default="", compare=False)  # that begins or goes on with it, where it was read from a file

    @property
    def settings_from(self) -> Path | None:
        """The results whose settings are taken, so that nothing is tuned."""
        return None if self.tuning is None else self.tuning.source

    @property
    def contest(self) -> list[str]:
        """The arms that are compared, in their order: all but those that only stand beside."""
        return [name for name, arm in self.arms.items() if not arm.beside]

    def measures(self, arm: str) -> str:
        """Return the metric an arm is read by."""
        return self.arms[arm].metric or self.metric

    def experiment(
        self, arm: str, scenario: str, seed: int, setting: Mapping[str, float] | None = None, engine: str = "serial"
    ) -> Experiment:
        """Return the experiment of one cell.

        Args:
            arm: its name.
            scenario: its name.
            seed: of the run.
            setting: "table.key" -> value, in place of the arm's own.
            engine: how it is computed; decides no bits.
        """
        import tomli_w

        one = self.arms[arm]
        raw = merged(merged(self.base, self.scenarios[scenario]), one.tables)
        for path, value in (setting or {}).items():
            table, key = path.split(".")
            raw.setdefault(table, dict(config.DEFAULTS.get(table, {})))[key] = value
        name = raw.get("strategy", config.DEFAULTS["strategy"]).get("name")
        where = f"{self.where}[arms.{arm}] " + (f"in [scenarios.{scenario}] " if scenario else "")
        if isinstance(name, str) and "update" not in one.tables:
            if not getattr(plugins.load("strategy", name, where), "uses_update", True):
                raw.pop("update", None)  # the base's is for those arms that take gradient steps
        raw["experiment"] = {**raw.get("experiment", {}), "name": arm, "seed": seed}
        if "rounds" not in raw["experiment"]:
            raw["experiment"]["rounds"] = self._rounds(where)
        raw.pop("engine", None)
        return config.parse(tomli_w.dumps(raw), where=where, base_dir=self.base_dir, engine=engine)

    def _rounds(self, where: str) -> int:
        given = [budget.most for budget in self.budgets if budget.axis == "rounds"]
        if not given:
            raise ConfigError(
                f"{where}experiment.rounds: expected the round at which a run ends at the latest, got none, and "
                "[budget] has no rounds either. Add it to [base.experiment]."
            )
        return int(max(given))

    def setting(self, arm: str, trial: int) -> dict[str, float]:
        """Return what a trial sets; trial 0 changes nothing. Draws are common to all arms, by name of what is tuned."""
        if trial == 0:
            return {}
        return {path: one.at(seed_for(0, "tuning", path, trial) / 2**63) for path, one in self.arms[arm].ranges.items()}

    def registered(self, claim: Claim) -> str:
        """Return the hash that stands for a claim and for all that the comparison was when it was made.

        Arms that only stand beside are no part of it.
        """
        arms = {name: table for name, table in self.raw.get("arms", {}).items() if name in self.contest}
        text = json.dumps([claim.name, {**self.raw, "arms": arms}], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with changes: one with a `name` takes the place of the base's, one without changes its options.

    >>> merged({"strategy": {"name": "fedavg", "x": 1}}, {"strategy": {"x": 2}})
    {'strategy': {'name': 'fedavg', 'x': 2}}
    >>> merged({"strategy": {"name": "fedavg", "x": 1}}, {"strategy": {"name": "fedadam"}})
    {'strategy': {'name': 'fedadam'}}
    """
    found = copy.deepcopy(dict(base))
    for table, change in changes.items():
        if isinstance(change, Mapping) and "name" not in change:
            found[table] = {**found.get(table, config.DEFAULTS.get(table, {})), **copy.deepcopy(dict(change))}
        else:
            found[table] = copy.deepcopy(change)
    return found
