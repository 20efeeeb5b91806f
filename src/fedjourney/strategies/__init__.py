"""Strategies: server half and client half of one algorithm in one file. Pure; nothing here imports flwr.

A strategy is a class `(setting, /, *, options)` derived from `Rounds`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import LocalUpdate, Reply, Work


@dataclass(frozen=True)
class Setting:
    """What a strategy may know of the experiment: never the test set.

    Attributes:
        seed: the experiment's.
        clients: N, how many there are.
        cohort: K, how many are asked each round.
    """

    seed: int
    clients: int
    cohort: int


class Ask(NamedTuple):
    """One exchange with clients.

    Attributes:
        shared: what everyone receives.
        clients: who is asked.
        rows: what each of them receives besides (may be ragged), or None.
        work: which of the strategy's client halves is meant.
    """

    shared: Tensors
    clients: Sequence[int]
    rows: Sequence[Tensors] | None = None
    work: str = "train"


@dataclass
class Cohort:
    """Who answered what.

    Attributes:
        asked: indices, ascending.
        clients: those whose replies were accepted, ascending [K'].
        metrics: name -> one number per accepted client, in that order.
        tensors: the folded replies, or None where nobody answered.
        rows: one dictionary per accepted client where the strategy has no fold.
        work: which exchange of the round this was, as its `Ask` named it.
    """

    asked: list[int]
    clients: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    tensors: Tensors | None = None
    rows: list[Tensors] = field(default_factory=list)
    work: str = "train"


class Fold(Protocol):
    """A running reduction over replies: an accumulator is a pair (sums, total weight)."""

    def add(self, sums: "Accumulator | None", reply: Tensors, weight: float) -> "Accumulator":
        """Add one reply; None is the empty accumulator."""

    def merge(self, left: "Accumulator", right: "Accumulator") -> "Accumulator":
        """Join two accumulators, the left one first."""

    def finish(self, sums: "Accumulator") -> Tensors:
        """Return the reduction."""


class Accumulator(NamedTuple):
    """Partial sums of a block of replies."""

    tensors: Tensors
    weight: float


class WeightedMean:
    """sum(w_i x_i) / sum(w_i)."""

    def add(self, sums: Accumulator | None, reply: Tensors, weight: float) -> Accumulator:
        """Add w x."""
        if sums is None:
            return Accumulator({name: tensor * weight for name, tensor in reply.items()}, weight)
        return Accumulator(
            {name: sums.tensors[name] + tensor * weight for name, tensor in reply.items()},
            sums.weight + weight,
        )

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        """Add sums and weights."""
        return Accumulator(
            {name: tensor + right.tensors[name] for name, tensor in left.tensors.items()},
            left.weight + right.weight,
        )

    def finish(self, sums: Accumulator) -> Tensors:
        """Divide by the total weight."""
        return {name: tensor / sums.weight for name, tensor in sums.tensors.items()}


class Rounds(ABC):
    """An algorithm over rounds: who is asked what, what clients do, what their answers change."""

    fold: Fold | None = WeightedMean()
    uses_update: bool = True  # False: [update] is refused, since nothing would read it
    state: Tensors  # the server's own tensors, part of every checkpoint

    def __init__(self) -> None:
        self.state = {}

    @abstractmethod
    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Return the client halves by name; `"train"` is the one asked by default."""

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Return what this round's cohort is asked; default: everyone gets the parameters and trains."""
        return Ask(params, clients)

    def weight(self, reply: Reply) -> float:
        """Return a reply's weight in the fold; default: its number of examples."""
        return reply.metrics["num-examples"]

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """Return tensors of the names, shapes and dtypes a reply must have; default: one update per parameter."""
        return {f"update/{name}": tensor for name, tensor in params.items()}

    @abstractmethod
    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors | Ask:
        """Return the next parameters, or one more exchange of this round, whose cohort is then told."""

    def model(self, params: Tensors) -> Tensors:
        """Return what is evaluated and delivered; default: the parameters."""
        return params


def update_of(tensors: Tensors) -> Tensors:
    """Return the `"update/"` group without its prefix."""
    return {name.removeprefix("update/"): t for name, t in tensors.items() if name.startswith("update/")}
