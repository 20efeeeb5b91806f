"""Strategies: server half and client half of one algorithm in one file. Pure; nothing here imports flwr.

A strategy is a class `(setting, /, *, options)` derived from `Rounds`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, accumulate
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
        metrics: name -> one number per accepted client, in that order; NaN where a client sent none.
        tensors: the folded replies, or None where nobody answered.
        rows: one dictionary per accepted client where the strategy has no fold.
        work: which exchange of the round this is, as its ask said.
    """

    asked: list[int]
    clients: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    tensors: Tensors | None = None
    rows: list[Tensors] = field(default_factory=list)
    work: str = "train"


class Fold(Protocol):
    """A running reduction over replies: an accumulator is a pair (sums, total weight), and may be changed in place."""

    def add(self, sums: "Accumulator | None", reply: Tensors, weight: float) -> "Accumulator":
        """Add one reply; None is the empty accumulator."""

    def merge(self, left: "Accumulator", right: "Accumulator") -> "Accumulator":
        """Join two accumulators, the left one first."""

    def finish(self, sums: "Accumulator") -> Tensors:
        """Return the reduction; the accumulator is given up for it."""


class Accumulator(NamedTuple):
    """Partial sums of a block of replies."""

    tensors: Tensors
    weight: float


class WeightedMean:
    """sum(w_i x_i) / sum(w_i)."""

    def add(self, sums: Accumulator | None, reply: Tensors, weight: float) -> Accumulator:
        """Add w x, in place."""
        if not reply:  # nothing but metrics was asked for
            return Accumulator({}, weight if sums is None else sums.weight + weight)
        if sums is None:
            return Accumulator(dict(zip(reply, torch._foreach_mul(list(reply.values()), weight), strict=True)), weight)
        accumulate(sums.tensors, reply, weight)
        return Accumulator(sums.tensors, sums.weight + weight)

    def merge(self, left: Accumulator, right: Accumulator) -> Accumulator:
        """Add sums and weights, in place on the left."""
        if left.tensors:
            torch._foreach_add_(list(left.tensors.values()), [right.tensors[name] for name in left.tensors])
        return Accumulator(left.tensors, left.weight + right.weight)

    def finish(self, sums: Accumulator) -> Tensors:
        """Divide by the total weight, in place."""
        if sums.tensors:
            torch._foreach_div_(list(sums.tensors.values()), sums.weight)
        return sums.tensors


class Rounds(ABC):
    """An algorithm over rounds: who is asked what, what clients do, what their answers change."""

    fold: Fold | None = WeightedMean()
    uses_update: bool = True  # False: [update] is refused, since nothing would read it
    evolution: bool = False  # True: scores of candidates move the model; such a claim wants a gradient twin beside it
    dense_down: bool = True  # False: what goes down is as sparse as what transforms leave of what goes up
    weighted: bool = True  # False: all replies count the same, however many examples a client holds
    pooled: bool = False  # True: a client's shard is everybody's examples; nothing is charged, only a simulation can
    partial: bool = False  # True: a reply may lack tensors of `like`; such a strategy has no fold
    resumable: bool = True  # False: it remembers what `state` does not hold
    uphill: torch.Tensor | None = None  # the direction [P] that `tell` estimated before its optimiser, for records
    notes: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed: what `tell` has to say of its step, for records
    state: Tensors  # what the server remembers, part of every checkpoint; numbers, texts and lists may stand in it too

    def __init__(self, setting: Setting | None = None, /) -> None:
        """Begin with nothing remembered; a strategy without options needs no `__init__` of its own."""
        self.state = {}

    @abstractmethod
    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Return the client halves by name; `"train"` is the one asked by default."""

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Return what this round's cohort is asked; default: everyone gets the parameters and trains."""
        return Ask(params, clients)

    def weight(self, reply: Reply) -> float:
        """Return a reply's weight in the fold; default: its number of examples.

        It is called where the fold runs, in a worker process too: it may look at the reply alone, never at `state`.
        """
        return reply.metrics["num-examples"]

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """Return tensors of the names, shapes and dtypes a reply must have; default: one update per parameter.

        Only their form is looked at. `work` is the client half that replies.
        """
        return {f"update/{name}": tensor for name, tensor in params.items()}

    @abstractmethod
    def tell(self, round: int, params: Tensors, cohort: Cohort) -> "Tensors | Ask":
        """Return the next parameters; or a further ask, after whose replies `tell` is called again in this round."""

    def model(self, params: Tensors) -> Tensors:
        """Return what is evaluated and delivered; default: the parameters."""
        return params


def update_of(tensors: Tensors) -> Tensors:
    """Return the `"update/"` group without its prefix."""
    return {name.removeprefix("update/"): t for name, t in tensors.items() if name.startswith("update/")}
