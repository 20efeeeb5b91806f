"""One cell: an arm in a scenario with a setting and a seed, a run folder that ends when every budget is spent."""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fedjourney.comparison.design import Budget
from fedjourney.errors import RunError
from fedjourney.tally import Computed

FILE = "cell.json"
Watch = Callable[[dict[str, Any], dict[str, float]], None]


@dataclass(frozen=True)
class Cell:
    """What a process needs to compute a cell, as plain JSON.

    Attributes:
        arm, scenario, setting, seed: its place.
        text: the experiment.
        base_dir: against which its paths are read.
        folder: of its run.
        budgets: after the largest of each axis it is enough.
    """

    arm: str
    scenario: str
    setting: str
    seed: int
    text: str
    base_dir: str
    folder: str
    budgets: tuple[Budget, ...]

    @property
    def title(self) -> str:
        """How it is called on a screen."""
        trial = "" if self.setting == "default" else f" ({self.setting})"
        return f"{self.scenario} {self.arm}{trial} seed {self.seed}"

    @property
    def identity(self) -> str:
        """A digest of the tables that decide bits: all but how it is computed."""
        tables = {name: table for name, table in tomllib.loads(self.text).items() if name != "engine"}
        return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()

    def encode(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> "Cell":
        """Return the cell of a line."""
        told = json.loads(line)
        return cls(**told | {"budgets": tuple(Budget(*budget) for budget in told["budgets"])})


_held: dict[str, Any] = {}  # data and shards of the last cell of this process


class Enough(Exception):  # noqa: N818 (not an error)
    """Every budget is spent; the rounds are on disk."""


def cost(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a round cost on each axis, per client that was asked: it counts 1 where nobody was."""
    asked = max(row["clients"]["asked"], 1)
    computed = Computed(row.get("gradients", 0), row.get("forwards", 0))
    return {
        "rounds": float(row["round"] > 0),
        "bytes": (row["bytes_up"] + row["bytes_down"]) / asked,
        "evaluations": computed.total / asked,
    }


def total(costs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sum on each axis."""
    found = {"rounds": 0.0, "bytes": 0.0, "evaluations": 0.0}
    for one in costs:
        found = {axis: value + one[axis] for axis, value in found.items()}
    return found


def spent(paid: Mapping[str, float], budgets: Sequence[Budget]) -> bool:
    """Return whether nothing within any budget is still to come."""
    return all(paid[budget.axis] > budget.most or _exactly(paid, budget) for budget in budgets)


def _exactly(paid: Mapping[str, float], budget: Budget) -> bool:
    return budget.axis == "rounds" and paid["rounds"] >= budget.most


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rounds of a cell as far as they are written."""
    path = folder / "rounds.jsonl"
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break  # the last line of a run that was killed while it wrote
    return found


def done(cell: Cell) -> bool:
    """Return whether a cell needs no more work."""
    try:
        told = json.loads((Path(cell.folder) / FILE).read_text())
    except (OSError, ValueError):
        return False
    if told["experiment"] != cell.identity:
        raise RunError(
            f"{cell.folder}: expected a cell of this comparison, got another experiment: the file has changed since. "
            "Choose another --out, or remove the cell's folder to have it computed anew."
        )
    return told["ended"] or spent(told["paid"], cell.budgets)


def compute(cell: Cell, data_root: Path | None = None, watch: Watch = lambda row, paid: None) -> None:
    """Run a cell, or go on with it, until its budgets are spent or its rounds are over; then write `cell.json`.

    Raises:
        FedjourneyError: it cannot be run.
    """
    if done(cell):
        return
    from fedjourney import config, experiment
    from fedjourney.plan import plan
    from fedjourney.storage import write_atomically

    folder = Path(cell.folder)
    parsed = config.parse(cell.text, where=f"{cell.title}: ", base_dir=Path(cell.base_dir))
    key = json.dumps([parsed.seed, parsed["data"], parsed["partition"], str(data_root), cell.base_dir])
    built = plan(parsed, data_root, _held.get(key))
    _held.clear()  # the next cell is most often another arm on the same shards
    _held[key] = (built.dataset, built.shards)
    folder.mkdir(parents=True, exist_ok=True)
    costs = {row["round"]: cost(row) for row in rows_of(folder)}
    ended = True

    def look(row: dict[str, Any]) -> None:
        costs[row["round"]] = cost(row)
        paid = total(one for round, one in costs.items() if round <= row["round"])
        watch(row, paid)
        if spent(paid, cell.budgets):
            raise Enough

    try:
        experiment.compute(built, folder, data_root=data_root, watch=look)
    except Enough:
        ended = False
    rows = rows_of(folder)
    told = {
        "experiment": cell.identity,
        "paid": total(map(cost, rows)),
        "ended": ended,
        "start": start(built),
        "classes": _guessed_from(built),
        "test": len(built.dataset.test),
    }
    write_atomically(folder / FILE, json.dumps(told).encode())


def _guessed_from(built: Any) -> int:
    """Return how many classes somebody who guesses has to choose from, 0 where guessing has no number."""
    from fedjourney.tasks._few_shot import FewShot
    from fedjourney.tasks._prediction import CrossEntropy

    if isinstance(built.task, FewShot):
        return built.task.ways
    return built.dataset.classes if isinstance(built.task, CrossEntropy) else 0


def start(built: Any) -> str:
    """Return a digest of all that arms must have in common: data, shards, initial parameters, first cohorts."""
    from fedjourney.seeds import seed_for, shuffled
    from fedjourney.tensors import digest_update

    state = hashlib.sha256(built.dataset.fingerprint.encode())
    for client in range(min(len(built.shards), 1000)):
        state.update(built.shards[client].astype("<i8").tobytes())
    seed, setting = built.experiment.seed, built.setting
    digest_update(state, built.task.init(seed_for(seed, "model")))
    for round in range(1, 4):
        order = shuffled(seed_for(seed, "cohort", round), setting.clients)
        state.update(json.dumps(sorted(islice(order, setting.cohort))).encode())
    return state.hexdigest()
