"""One exchange with clients: what is asked of whom, and what comes back, block by block along the fold tree."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch

from fedjourney.strategies import Accumulator, Rounds
from fedjourney.tally import NOTHING, Computed
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.updates import Reply
from fedjourney.wire import encoded_size

BLOCKS = 128  # a fold tree has at most so many blocks, however large the cohort
EVALUATION_BLOCK = 512  # examples


class Problem(NamedTuple):
    """Why a reply does not count."""

    kind: str
    stage: str
    message: str


@dataclass(frozen=True)
class Exchange:
    """What a server asks of clients.

    Attributes:
        kind: whether they train (or do other work), or evaluate `shared` on their own held-out parts.
        round: of the run.
        work: which of the strategy's client halves is meant.
        shared: what every client receives.
        clients: indices, ascending.
        states: for each of them the round whose kept state counted last, -1: none yet.
        rows: for each of them what it alone receives, or nothing at all.
        like: names, shapes and dtypes that a reply's decoded tensors must have.
        resumes: for each of them the round whose state a resume would ask for (-1: none, or not said).
    """

    kind: Literal["train", "evaluate"]
    round: int
    work: str
    shared: Tensors
    clients: list[int]
    states: list[int]
    rows: list[Tensors] = field(default_factory=list)
    like: Tensors = field(default_factory=dict)
    resumes: list[int] = field(default_factory=list)

    def row(self, place: int) -> Tensors:
        """Return what the client at that place alone receives."""
        return self.rows[place] if self.rows else {}

    def needed(self, place: int) -> int:
        """Return the oldest round whose state may still be asked of the client at that place."""
        return self.resumes[place] if self.resumes else -1

    def bytes_down(self) -> int:
        """Return what all clients together receive, as it would weigh on a wire."""
        return len(self.clients) * encoded_size(self.shared) + sum(map(encoded_size, self.rows))

    def cut(self, lanes: int) -> list["Exchange"]:
        """Return the blocks of the fold tree: consecutive clients, `max(lanes, ceil(clients / 128))` in each."""
        size = max(lanes, math.ceil(len(self.clients) / BLOCKS))
        return [
            self.at(range(start, min(start + size, len(self.clients)))) for start in range(0, len(self.clients), size)
        ]

    def at(self, places: Iterable[int]) -> "Exchange":
        """Return the part of the exchange with the clients at those places."""
        places = list(places)
        return replace(
            self,
            clients=[self.clients[place] for place in places],
            states=[self.states[place] for place in places],
            rows=[self.rows[place] for place in places] if self.rows else [],
            resumes=[self.resumes[place] for place in places] if self.resumes else [],
        )


@dataclass
class Answer:
    """One client's reply.

    Attributes:
        client: who.
        tensors: as encoded by the transforms; empty once folded.
        metrics: numbers, `"num-examples"` among them.
        problem: why it does not count, or None.
        kept: whether the client kept state of this round.
        size: bytes on the wire, 0 where nothing came.
        computed: what the client evaluated for it.
    """

    client: int
    tensors: Tensors = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    problem: Problem | None = None
    kept: bool = False
    size: int = 0
    computed: Computed = NOTHING


@dataclass
class Block:
    """A block of answers in the order asked, and the fold of those that count (None: there is no such fold)."""

    answers: list[Answer]
    sums: Accumulator | None = None


def fold_block(
    rounds: Rounds, transforms: list[Transform], like: Tensors, answers: Iterable[Answer], trusting: bool = False
) -> Block:
    """Decode, check and fold answers one by one, so that a block never holds two replies.

    Where the strategy has no fold, each answer keeps its decoded tensors.

    Args:
        rounds: the strategy.
        transforms: to be undone.
        like: the form that a reply must have.
        answers: as they travelled.
        trusting: whether replies that are folded are taken to be finite; whoever trusts looks at the sums.
    """
    trusting = trusting and rounds.fold is not None
    block, fold = Block([]), rounds.fold
    for answer in answers:
        block.answers.append(answer)
        if answer.problem is None:
            answer.problem = _decode(answer, transforms, like, trusting, rounds)
        if answer.problem is None and fold is not None:
            try:
                weight = rounds.weight(Reply(answer.tensors, answer.metrics, {}))
            except Exception as error:  # a reply without the metric that the weight is made of
                answer.problem = Problem("malformed", "weight", f"{type(error).__name__}: {error}")
            else:
                if not 0 <= weight < math.inf:
                    answer.problem = Problem("malformed", "weight", f"expected a weight of 0 or more, got {weight}")
                else:
                    block.sums = fold.add(block.sums, answer.tensors, weight)
        if answer.problem is not None or fold is not None:
            answer.tensors = {}
    return block


def _decode(
    answer: Answer, transforms: list[Transform], like: Tensors, trusting: bool, rounds: Rounds
) -> Problem | None:
    """Undo the transforms in place; return what is wrong with the reply, if anything is."""
    if "num-examples" not in answer.metrics:
        return Problem("malformed", "reply", 'no "num-examples" among the metrics')
    tensors = answer.tensors
    try:
        answer.size = encoded_size(tensors, answer.metrics)
        sends = any(name.startswith("update/") for name in like)  # else there is nothing that they would have changed
        for transform in reversed(transforms) if sends else ():
            part = {name: tensor for name, tensor in tensors.items() if name.startswith("update/")}
            tensors = {n: t for n, t in tensors.items() if n not in part} | transform.decode(part, like)
        _same_form(tensors, {name: like[name] for name in like if name in tensors} if rounds.partial else like)
    except Exception as error:  # whatever a foreign reply makes a transform raise costs that reply alone
        return Problem("malformed", "decode", f"{type(error).__name__}: {error}")
    if not finite({} if trusting else tensors, answer.metrics):
        steps = "[update] learning_rate, or [strategy] server_learning_rate"
        steps = steps if rounds.uses_update else "[strategy] learning_rate, or sigma"
        return Problem("not finite", "reply", f"NaN or infinity in the reply. Lower {steps} where it has one?")
    answer.tensors = {name: tensors[name] for name in like if name in tensors}
    return None


def _same_form(got: Tensors, expected: Tensors) -> None:
    if got.keys() != expected.keys():
        raise ValueError(f"expected tensors {sorted(expected)[:3]}…, got {sorted(got)[:3]}…")
    for name, tensor in got.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise ValueError(
                f"{name}: expected {tuple(expected[name].shape)} {expected[name].dtype}, "
                f"got {tuple(tensor.shape)} {tensor.dtype}"
            )


def finite(tensors: Tensors, metrics: dict[str, float]) -> bool:
    """Return whether every number of a reply is finite."""
    if not all(math.isfinite(value) for value in metrics.values()):
        return False
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point() and tensor.numel()]
    # a finite sum has finite terms, and costs a fraction of looking at each; an infinite one may have overflowed
    if all(math.isfinite(tensor.sum().item()) for tensor in floats):
        return True
    return all(bool(torch.isfinite(tensor).all()) for tensor in floats)


def forms(like: Tensors) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return shape and dtype by name: what `blank` makes tensors of again on the other side."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in like.items()}


def blank(described: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> Tensors:
    """Return zeros of those forms that take no memory."""
    return {name: torch.zeros((), dtype=dtype).expand(shape) for name, (shape, dtype) in described.items()}


def evaluation_blocks(count: int) -> Iterator[slice]:
    """Yield the blocks in which `count` examples are evaluated, whoever evaluates them."""
    for start in range(0, count, EVALUATION_BLOCK):
        yield slice(start, min(start + EVALUATION_BLOCK, count))


def added(parts: Iterable[Tensors]) -> Tensors:
    """Return sums of evaluation blocks, added in order."""
    total: Tensors = {}
    for part in parts:
        total = {name: total[name] + tensor for name, tensor in part.items()} if total else dict(part)
    return total
