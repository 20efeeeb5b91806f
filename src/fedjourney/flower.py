"""The only adapter: our pure strategies inside Flower's `Strategy.start`.

It draws cohorts, sends exchanges, folds blocks, and hands each finished round to a recorder. `start` itself is
Flower's and is never overridden.
"""

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedjourney.errors import RunError
from fedjourney.exchange import Answer, Block, Exchange, finite
from fedjourney.plan import Plan
from fedjourney.seeds import seed_for, shuffled
from fedjourney.strategies import Accumulator, Ask, Cohort
from fedjourney.tensors import Tensors
from fedjourney.true_gradient import cosines

PANEL = 100  # clients whose held-out parts are evaluated, at most
NOTHING = ArrayRecord()  # what `start` passes around in place of the parameters: they travel in exchanges


@dataclass
class Failure:
    """A reply that did not count."""

    client: int
    kind: str
    stage: str
    message: str


@dataclass
class RoundRecord:
    """What one round leaves behind.

    Attributes:
        round: its number; 0 is the model before training.
        asked, accepted: client indices, ascending, of the round's first exchange.
        failures: of all its exchanges.
        metrics: name -> a number per accepted client.
        further: work -> the same for the round's further exchanges.
        evaluation: name -> a number per panel client that answered, on its own held-out part.
        unseen: the same for clients that never train.
        counted: whether the parameters moved.
        reason: why they did not.
        bytes_up, bytes_down: over all clients and exchanges but evaluation.
        gradients, forwards: examples evaluated, with a gradient or without, the same way.
        step: where the strategy notes anything of its step: that, and how far it moved the parameters, in units of
            their length; where it was asked for, the cosine with the true gradient.
    """

    round: int
    asked: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    further: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    evaluation: dict[str, list[float]] = field(default_factory=dict)
    unseen: dict[str, list[float]] = field(default_factory=dict)
    counted: bool = True
    reason: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    gradients: int = 0
    forwards: int = 0
    step: dict[str, float] = field(default_factory=dict)


class Transport(Protocol):
    """How exchanges become Flower messages and replies become blocks: ours in process, or Flower's network."""

    def send(self, exchange: Exchange) -> list[Message]:
        """Return the messages of an exchange."""

    def receive(self, replies: Iterable[Message]) -> Iterator[Block]:
        """Yield the blocks of the exchange sent last, in order."""


class FlowerStrategy(Strategy):
    """Runs one of our strategies as a Flower strategy.

    Attributes:
        params: the current parameters.
        accepted: client -> the last round whose kept state counted.
        checkpointed: the same as of the last checkpoint, which a resume would go on with.
        record: the round under way.
        first_round: added to every round that Flower counts, so that a resumed run goes on.
    """

    def __init__(
        self, plan: Plan, params: Tensors, transport: Transport, held: Container[int], first_round: int = 0
    ) -> None:
        self.plan, self.params, self.first_round = plan, params, first_round
        self.accepted: dict[int, int] = {}
        self.checkpointed: dict[int, int] = {}
        self.record = RoundRecord(0)
        self._transport, self._held = transport, held
        self._every = plan.experiment["experiment"]["evaluate_every"]
        self._cosine_every = plan.experiment["experiment"]["cosine_every"]
        self._grid: Grid | None = None
        self._ask = Ask({}, [])

    def summary(self) -> None:
        """Say nothing: the run's own table tells it."""

    def evaluates(self, round: int) -> bool:
        """Return whether models are evaluated after this round."""
        last = round == self.plan.experiment.rounds
        return last or (self._every > 0 and round % self._every == 0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's cohort: the first K clients of a seeded order that somebody holds."""
        round_, setting = server_round + self.first_round, self.plan.setting
        order = shuffled(seed_for(setting.seed, "cohort", round_), setting.clients)
        drawn = sorted(islice((index for index in order if index in self._held), setting.cohort))
        self._grid, self.record = grid, RoundRecord(round_)
        self._ask = self.plan.rounds.ask(round_, self.params, drawn)
        self.record.asked = sorted(self._ask.clients)
        return self._transport.send(self._exchange(self._ask))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold the replies and let the strategy step, over as many further exchanges as it wants."""
        rounds, record, state = self.plan.rounds, self.record, dict(self.plan.rounds.state)
        kept: dict[int, int] = {}
        cohort = self._fold(self._ask, replies, kept)
        record.accepted, record.metrics = cohort.clients, cohort.metrics
        rounds.notes, rounds.uphill = {}, None  # what an earlier round said holds no longer
        while not (reason := self._short(cohort)):
            told = rounds.tell(record.round, self.params, cohort)
            self._check(told)
            if isinstance(told, Ask):
                cohort = self._again(told, kept)
                record.further[told.work] = cohort.metrics
            elif finite(told, {}):
                looked = self._cosine_every is not None and record.round % self._cosine_every == 0
                if rounds.notes or looked:  # a pass over the parameters, which averaging can do without
                    angles = cosines(self.plan, self.params, told, rounds.uphill) if looked else {}
                    record.step = {"relative": _relative(self.params, told), **angles, **rounds.notes}
                self.params = told
                self.accepted |= kept
                return NOTHING, None
            else:
                reason = "the step gave NaN or infinity"
                break
        record.counted, record.reason, rounds.state = False, reason, state
        return NOTHING, None

    def _check(self, told: object) -> None:
        """Refuse a step that gives something else than parameters of the same form, or a further ask.

        Raises:
            RunError: says what came.
        """
        if isinstance(told, Ask):
            return
        form = {name: (tensor.shape, tensor.dtype) for name, tensor in self.params.items()}
        whole = isinstance(told, dict) and all(isinstance(tensor, torch.Tensor) for tensor in told.values())
        if not whole or {n: (t.shape, t.dtype) for n, t in told.items()} != form:  # type: ignore[attr-defined]
            came = type(told).__name__ if not isinstance(told, dict) else f"{list(told)[:3]}…"
            raise RunError(
                f"round {self.record.round}: expected `tell` of the strategy to return parameters of the same names, "
                f"shapes and dtypes, or a further Ask, got {came}."
            )

    def _short(self, cohort: Cohort) -> str:
        """Return why a cohort's replies are not enough for a step, or nothing."""
        came = len(cohort.clients)
        wanted = min(self.plan.experiment["experiment"]["min_replies"], len(cohort.asked))
        if came < wanted or not came:
            return f"{came} of {len(cohort.asked)} replies counted, {wanted} were needed"
        if cohort.tensors is not None and not finite(cohort.tensors, {}):
            return "the replies' mean is NaN or infinite: one of them is too large"
        return ""

    def _again(self, ask: Ask, kept: dict[int, int]) -> Cohort:
        """Have a further exchange in this round."""
        assert self._grid is not None
        messages, timeout = self._transport.send(self._exchange(ask)), self.plan.experiment["experiment"]["timeout"]
        return self._fold(ask, self._grid.send_and_receive(messages, timeout=timeout), kept)

    def _exchange(self, ask: Ask) -> Exchange:
        """Return an ask as an exchange, clients ascending, and charge what goes down."""
        places = sorted(range(len(ask.clients)), key=lambda place: ask.clients[place])
        clients = [ask.clients[place] for place in places]
        if len({*clients}) < len(clients):
            raise RunError(f"round {self.record.round}: the strategy asked a client twice in one exchange: {clients}.")
        rows = [ask.rows[place] for place in places] if ask.rows is not None else []
        states = [self.accepted.get(client, -1) for client in clients]
        resumes = [self.checkpointed.get(client, -1) for client in clients]
        like = self.plan.rounds.like(self.params, ask.work)
        exchange = Exchange("train", self.record.round, ask.work, ask.shared, clients, states, rows, like, resumes)
        if not self.plan.rounds.pooled:
            self.record.bytes_down += exchange.bytes_down()
        return exchange

    def _fold(self, ask: Ask, replies: Iterable[Message], kept: dict[int, int]) -> Cohort:
        """Merge blocks in order; note who counts, who failed and what it weighed."""
        fold, record, total = self.plan.rounds.fold, self.record, None
        cohort = Cohort(sorted(ask.clients), work=ask.work)
        for block in self._transport.receive(replies):
            for answer in block.answers:
                record.bytes_up += 0 if self.plan.rounds.pooled else answer.size
                record.gradients += answer.computed.gradients
                record.forwards += answer.computed.forwards
                if answer.problem is not None:
                    record.failures.append(Failure(answer.client, *answer.problem))
                    continue
                cohort.clients.append(answer.client)
                if answer.kept:
                    kept[answer.client] = record.round
                place = len(cohort.clients) - 1
                for name in dict.fromkeys([*cohort.metrics, *answer.metrics]):  # a client may send what others do not
                    numbers = cohort.metrics.setdefault(name, [math.nan] * place)
                    numbers.append(answer.metrics.get(name, math.nan))
                if fold is None:
                    cohort.rows.append(answer.tensors)
            if fold is None or block.sums is None:
                continue
            if total is None:  # the engine may use a block's memory again
                total = Accumulator({name: t.clone() for name, t in block.sums.tensors.items()}, block.sums.weight)
            else:
                total = fold.merge(total, block.sums)
        if fold is not None and total is not None:
            cohort.tensors = fold.finish(total)
        return cohort

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask fixed panels to evaluate the model: clients on their held-out parts, and clients that never train."""
        round_, setting = server_round + self.first_round, self.plan.setting
        if not self.evaluates(round_):
            return []
        panel: list[int] = []
        if self.plan.experiment["experiment"]["holdout"]:
            order = shuffled(seed_for(setting.seed, "panel"), setting.clients)
            panel += sorted(islice((index for index in order if index in self._held), PANEL))
        everyone = range(setting.clients, len(self.plan.shards))
        panel += islice((index for index in everyone if index in self._held), PANEL)
        if not panel:
            return []
        states = [self.accepted.get(client, -1) for client in panel]
        model = self.plan.rounds.model(self.params)
        return self._transport.send(Exchange("evaluate", round_, "evaluate", model, panel, states))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Keep each panel client's metrics."""
        for answer in (answer for block in self._transport.receive(replies) for answer in block.answers):
            self._note(answer)
        return None

    def _note(self, answer: Answer) -> None:
        if answer.problem is not None:
            kind, _, message = answer.problem
            self.record.failures.append(Failure(answer.client, kind, "evaluate", message))
        elif answer.metrics.get("num-examples"):
            unseen = answer.client >= self.plan.setting.clients
            metrics = self.record.unseen if unseen else self.record.evaluation
            for name, value in answer.metrics.items():
                metrics.setdefault(name, []).append(value)


def _relative(before: Tensors, after: Tensors) -> float:
    """Return |after - before| / |before|, infinite from nothing to something."""
    old, new = list(before.values()), list(after.values())
    moved, size = (float(torch.stack(torch._foreach_norm(some)).norm()) for some in (torch._foreach_sub(new, old), old))
    return moved / size if size else (math.inf if moved else 0.0)
