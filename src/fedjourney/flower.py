"""The only adapter: our pure strategies inside Flower's `Strategy.start`.

It draws cohorts, sends asks, checks and folds replies block by block, and hands each finished round to a
recorder. `start` itself is Flower's and is never overridden.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedjourney import messages
from fedjourney.client import Answer, finite
from fedjourney.errors import RunError
from fedjourney.plan import Plan
from fedjourney.seeds import seed_for, shuffled
from fedjourney.strategies import Accumulator, Cohort
from fedjourney.tensors import Tensors
from fedjourney.updates import Reply
from fedjourney.wire import encoded_size

LOOK_SECONDS = 0.5  # between two looks for new nodes
PANEL = 100  # clients whose held-out parts are evaluated, at most


@dataclass
class Failure:
    """A reply that did not count."""

    client: int
    kind: str
    stage: str
    message: str


@dataclass
class RoundRecord:
    """What one round leaves behind."""

    round: int
    asked: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)  # by accepted client
    evaluation: dict[str, list[float]] = field(default_factory=dict)  # by panel client that answered
    counted: bool = True
    bytes_up: int = 0
    bytes_down: int = 0


class FlowerStrategy(Strategy):
    """Runs one of our strategies as a Flower strategy.

    Attributes:
        params: the current parameters.
        accepted: client -> the last round whose kept state counted.
        record: the round under way.
        first_round: added to every round that Flower counts, so that a resumed run goes on.

    With `together`, one message carries the asks of all clients of a node: a SuperNode starts a process for each.
    """

    def __init__(
        self,
        plan: Plan,
        params: Tensors,
        ask: dict[str, Any],
        nodes: dict[int, int],
        first_round: int = 0,
        together: bool = False,
    ) -> None:
        self.plan, self.params, self.nodes, self.first_round = plan, params, nodes, first_round
        self.accepted: dict[int, int] = {}
        self.record = RoundRecord(0)
        self._ask, self._together = ask, together
        self._every = plan.experiment["experiment"]["evaluate_every"]
        self._panel: list[int] = []
        self._arrays: ArrayRecord | None = None

    def arrays(self) -> ArrayRecord:
        """Return the current parameters as Flower arrays, encoded once a round."""
        if self._arrays is None:
            self._arrays = messages.to_arrays(self.params)
        return self._arrays

    def summary(self) -> None:
        """Say nothing: the run's own table tells it."""

    def evaluates(self, round: int) -> bool:
        """Return whether models are evaluated after this round."""
        last = round == self.plan.experiment.rounds
        return last or (self._every > 0 and round % self._every == 0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's cohort: the first K clients of a seeded order."""
        round_, setting = server_round + self.first_round, self.plan.setting
        order = shuffled(seed_for(setting.seed, "cohort", round_), setting.clients)
        drawn = sorted(islice((index for index in order if index in self.nodes), setting.cohort))
        ask = self.plan.rounds.ask(round_, self.params, drawn)
        self.record = RoundRecord(round_, asked=sorted(ask.clients))
        encoded = self.arrays() if ask.shared is self.params else messages.to_arrays(ask.shared)
        rows = dict(zip(ask.clients, ask.rows, strict=True)) if ask.rows is not None else {}
        self.record.bytes_down = sum(encoded_size(rows.get(i, {})) for i in rows) + len(ask.clients) * encoded_size(
            ask.shared
        )
        clients = {index: (self.accepted.get(index, -1), rows.get(index, {})) for index in self.record.asked}
        return self._messages("train", encoded, {"round": round_, "work": ask.work}, clients)

    def _messages(
        self, kind: str, arrays: ArrayRecord, told: dict[str, Any], clients: dict[int, tuple[int, Tensors]]
    ) -> list[Message]:
        """Return one message per client in process; across a network one per node, for it pays for each.

        It is a list, not a generator: Flower's grids go over it twice, and the record must stand before a reply comes.
        """
        groups: dict[tuple[int, ...], dict[int, tuple[int, Tensors]]] = {}
        for index, own in clients.items():
            place = (self.nodes[index],) if self._together else (self.nodes[index], index)
            groups.setdefault(place, {})[index] = own
        return [
            Message(
                messages.write_asks(arrays, self._ask | told, group),
                dst_node_id=place[0],
                message_type=kind,
                group_id=str(told["round"]),
            )
            for place, group in groups.items()
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Fold the replies in blocks of clients as asked, then let the strategy step."""
        record, cohort = self.record, Cohort(self.record.asked)
        fold, blocks = self.plan.rounds.fold, []
        kept: list[int] = []
        block = math.ceil(len(record.asked) / 128)
        current: tuple[int, Accumulator | None] = (0, None)
        for position, (index, answer) in enumerate(self._in_order(record.asked, replies)):
            problem = self._problem(answer)
            if problem:
                record.failures.append(Failure(index, *problem))
                continue
            assert answer is not None
            record.bytes_up += encoded_size(answer.tensors, answer.metrics)
            try:
                tensors = self._decode(answer.tensors)
            except Exception as error:
                record.failures.append(Failure(index, "malformed", "decode", f"{type(error).__name__}: {error}"))
                continue
            record.accepted.append(index)
            if answer.kept:
                kept.append(index)
            for name, value in answer.metrics.items():
                record.metrics.setdefault(name, []).append(value)
            if fold is None:
                cohort.rows.append(tensors)
                continue
            if position // block != current[0] and current[1] is not None:
                blocks.append(current[1])
                current = (0, None)
            weight = self.plan.rounds.weight(Reply(tensors, answer.metrics, {}))
            current = (position // block, fold.add(current[1], tensors, weight))
        if current[1] is not None:
            blocks.append(current[1])
        record.counted = len(record.accepted) >= self.plan.experiment["experiment"]["min_replies"]
        if not record.counted:
            return self.arrays(), None
        if fold is not None:
            total = blocks[0]
            for part in blocks[1:]:
                total = fold.merge(total, part)
            cohort.tensors = fold.finish(total)
        cohort.clients, cohort.metrics = record.accepted, record.metrics
        self.params, self._arrays = self.plan.rounds.tell(record.round, self.params, cohort), None
        self.accepted |= dict.fromkeys(kept, record.round)
        return self.arrays(), None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask a fixed panel of clients to evaluate the model on their held-out parts."""
        round_, setting = server_round + self.first_round, self.plan.setting
        self._panel = []
        if not self.evaluates(round_) or not self.plan.experiment["experiment"]["holdout"]:
            return []
        order = shuffled(seed_for(setting.seed, "panel"), setting.clients)
        self._panel = sorted(islice((index for index in order if index in self.nodes), PANEL))
        model = self.plan.rounds.model(self.params)
        encoded = self.arrays() if model is self.params else messages.to_arrays(model)
        told = {"round": round_, "work": "evaluate"}
        return self._messages("evaluate", encoded, told, dict.fromkeys(self._panel, (-1, {})))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Keep each panel client's metrics."""
        for index, answer in self._in_order(self._panel, replies):
            if answer is None or answer.error:
                said = answer.error.split("|", 2) if answer else ["lost", "evaluate", "no reply before the deadline"]
                self.record.failures.append(Failure(index, said[0], "evaluate", said[2]))
            elif answer.metrics.get("num-examples"):
                for name, value in answer.metrics.items():
                    self.record.evaluation.setdefault(name, []).append(value)
        return None

    def _in_order(self, asked: list[int], replies: Iterable[Message]) -> Iterator[tuple[int, Answer | None]]:
        """Yield (client, answer or None) in the order asked, holding as few replies as arrive early."""
        waiting: dict[int, Answer] = {}
        arriving = (
            item for reply in replies if reply.has_content() for item in messages.read_answers(reply.content).items()
        )
        for index in asked:
            while index not in waiting:
                arrived = next(arriving, None)
                if arrived is None:
                    break
                waiting[arrived[0]] = arrived[1]
            yield index, waiting.pop(index, None)
        for _ in arriving:  # let an in-process engine finish its books
            pass

    def _problem(self, answer: Answer | None) -> tuple[str, str, str] | None:
        """Return (kind, stage, message) where a reply cannot count."""
        if answer is None:
            return "lost", "train", "no reply before the deadline"
        if answer.error:
            kind, stage, message = answer.error.split("|", 2)
            return kind, stage, message
        if not finite(answer.tensors, answer.metrics):
            return "not finite", "reply", "NaN or infinity in the reply. Lower [update] learning_rate?"
        if "num-examples" not in answer.metrics:
            return "malformed", "reply", 'no "num-examples" among the metrics'
        return None

    def _decode(self, wire: Tensors) -> Tensors:
        """Undo the transforms and check names, shapes and dtypes against what the strategy expects."""
        like = self.plan.rounds.like(self.params)
        tensors = wire
        for transform in reversed(self.plan.transforms):
            part = {name: tensor for name, tensor in tensors.items() if name.startswith("update/")}
            tensors = {n: t for n, t in tensors.items() if n not in part} | transform.decode(part, like)
        _same_shapes(tensors, like)
        return tensors


def _same_shapes(got: Tensors, expected: Tensors) -> None:
    if got.keys() != expected.keys():
        raise ValueError(f"expected tensors {sorted(expected)[:3]}…, got {sorted(got)[:3]}…")
    for name, tensor in got.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise ValueError(
                f"{name}: expected {tuple(expected[name].shape)} {expected[name].dtype}, "
                f"got {tuple(tensor.shape)} {tensor.dtype}"
            )


def roll_call(grid: Grid, clients: int, deadline: float) -> dict[int, int]:
    """Return client index -> node, asking every node which indices it holds, until all N are held.

    Args:
        grid: Flower's or ours.
        clients: N.
        deadline: seconds to wait at most.

    Raises:
        RunError: two nodes hold one index, or nobody holds any at the deadline.
    """
    held: dict[int, int] = {}
    seen: set[int] = set()
    end = time.monotonic() + deadline
    while True:
        new = [node for node in grid.get_node_ids() if node not in seen]
        asks = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in new]
        for reply in grid.send_and_receive(asks, timeout=max(end - time.monotonic(), 1.0)) if asks else ():
            if not reply.has_content():
                continue
            node = reply.metadata.src_node_id
            config: dict[str, Any] = dict(reply.content["node"])
            seen.add(node)
            for index in range(int(config["partition-id"]), clients, int(config["num-partitions"])):
                if held.setdefault(index, node) != node:
                    raise RunError(
                        f"roll call: expected one holder of client {index}, got two nodes. "
                        "Give each node its own partition-id."
                    )
        if len(held) == clients:
            return held
        if time.monotonic() >= end:
            if held:
                return held
            raise RunError(f"roll call: expected nodes that hold clients, got none within {deadline:g} s.")
        time.sleep(LOOK_SECONDS)
