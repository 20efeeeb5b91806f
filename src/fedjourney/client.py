"""The client side, the same on every engine: a message comes, a local update runs, a reply goes."""

import functools
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from fedjourney import config
from fedjourney.exchange import Answer, Block, Exchange, Problem, finite, fold_block
from fedjourney.guard import FAULTS, Shared, described, well_formed
from fedjourney.lanes import Lanes
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.storage import ClientStates, States, cache_dir, data_dir, settle
from fedjourney.tally import Tally
from fedjourney.tasks import Metered
from fedjourney.tensors import placed
from fedjourney.updates import Client, LocalUpdate, Reply, Work

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

_log = logging.getLogger("fedjourney")
CPU = torch.device("cpu")


@dataclass
class ClientSide:
    """Answers exchanges for any client whose data it holds, a block of the fold tree at a time."""

    plan: Plan
    states: States

    def __post_init__(self) -> None:
        """Take device and lanes from `[numerics]`."""
        self._numerics = self.plan.numerics
        self._lanes = Lanes(self._numerics)
        self._metered = isinstance(self.plan.task, Metered)  # a look at a protocol costs as much as a small step
        self._thorough = self.plan.experiment.foreign  # code that is not ours may leave anything behind
        self._shared = self._sharing(Exchange("train", 0, "", {}, [], []))

    def _sharing(self, exchange: Exchange) -> Shared:
        return Shared(exchange, self._numerics.device, self._thorough)

    def block(self, exchange: Exchange, at: Callable[[int], None] = lambda client: None, alone: bool = False) -> Block:
        """Answer for all clients of an exchange, and fold what counts.

        Args:
            exchange: one block of it.
            at: told the client that is computed now (the first of those in lanes), before it is begun.
            alone: whether each client is computed among idle lanes; never changes the bits.
        """
        if exchange.kind == "evaluate":
            return Block(list(self._answers(exchange, at, alone)))
        for trusting in (True, False):  # looking at each reply costs a small client a twentieth: first look at the sums
            answers = self._answers(exchange, at, alone)
            with self._numerics.applied(self._thorough):
                block = fold_block(self.plan.rounds, self.plan.transforms, exchange.like, answers, trusting)
                if block.sums is None or finite(block.sums.tensors, {}):
                    break
        for answer in block.answers:
            answer.tensors = placed(answer.tensors, CPU)
        if block.sums is not None:
            block.sums = block.sums._replace(tensors=placed(block.sums.tensors, CPU))
        return block

    def answers(self, exchange: Exchange) -> Iterator[Answer]:
        """Yield each client's answer as it travels; whatever goes wrong becomes a problem that names the stage."""
        for answer in self._answers(exchange, lambda client: None, alone=False):
            answer.tensors = placed(answer.tensors, CPU)
            yield answer

    def _answers(self, exchange: Exchange, at: Callable[[int], None], alone: bool) -> Iterator[Answer]:
        """Yield the same with tensors on the device, where nothing has encoded them."""
        if not self._shared.of(exchange):
            self._shared = self._sharing(exchange)
        if exchange.kind == "evaluate":
            yield from (self._evaluate(exchange, place) for place in range(len(exchange.clients)))
            return
        half, count = self.plan.halves[exchange.work], len(exchange.clients)
        step = self._numerics.lanes if isinstance(half, LocalUpdate) and not alone else 1
        for start in range(0, count, step):
            places = range(start, min(start + step, count))
            at(exchange.clients[start])
            begun = [self._begin(exchange, place) for place in places]
            replies = iter(self._replies(half, [client for client in begun if isinstance(client, Client)]))
            for place, client in zip(places, begun, strict=True):
                yield client if isinstance(client, Answer) else self._answer(client, next(replies), exchange, place)

    def _begin(self, exchange: Exchange, place: int) -> "Client | Answer":
        """Return the client with its shard and its kept state, or the answer that says what is wrong with them."""
        index, stage = exchange.clients[place], "shard"
        try:
            shard = self.plan.pool if self.plan.rounds.pooled else self.plan.own(index)
            stage = "state"
            state = self.states.load(index, exchange.states[place])
        except FAULTS as error:
            return _raised(index, stage, error)
        if state is None:
            return Answer(
                index, problem=Problem("state lost", stage, f"no state of round {exchange.states[place]} here")
            )
        seed, device = self.plan.experiment.seed, self._numerics.device
        row, state = placed(exchange.row(place), device), placed(state, device)
        task, tally = self.plan.task, Tally()
        task = tally.of(cast(Metered, task).metered() if self._metered else task)
        return Client(index, exchange.round, self._shared.tensors(), row, state, shard, task, seed, tally)

    def _replies(self, half: LocalUpdate | Work, clients: list[Client]) -> list[Reply | BaseException]:
        """Return what the clients' work gave, or raised."""
        if len(clients) == 1:
            return [self._reply(half, clients[0])]
        if isinstance(half, LocalUpdate) and self._lanes.vectorised:
            try:
                with self._numerics.applied(self._thorough):
                    replies: list[Reply | BaseException] = list(self._in_lanes(half, clients))
                if not self._shared.restored():
                    return replies
            except FAULTS:
                pass  # in lanes one client's fault is everybody's: find whose it is, each among idle lanes
        return [self._reply(half, self._afresh(client)) for client in clients]

    def _afresh(self, client: Client) -> Client:
        """Return a client after others' work: what was spent in vain is not charged, what was changed is put back."""
        client.tally.forget()
        if self._metered:
            spent = cast(Metered, client.task).spent
            spent.update(dict.fromkeys(spent, 0.0))
        return replace(client, shared=self._shared.tensors())

    def _in_lanes(self, half: LocalUpdate, clients: list[Client]) -> Iterator[Reply]:
        """Train them in lanes, as many at once as the device has memory for."""
        left = list(clients)
        while left:
            some = left[: self._lanes.number]
            try:
                replies = list(self._lanes.train(half, some))
            except torch.OutOfMemoryError:
                if self._lanes.number == 1:
                    raise
                fewer = self._lanes.number // 2
            else:
                yield from replies
                left = left[len(some) :]
                continue
            # here, where the failed step's tensors are gone
            _log.warning("%s: out of memory with %d lanes, going on with %d", self._numerics.device, 2 * fewer, fewer)
            self._lanes = Lanes(replace(self._numerics, lanes=fewer))
            if self._numerics.device.type == "cuda":
                torch.cuda.empty_cache()

    def _reply(self, half: LocalUpdate | Work, client: Client) -> Reply | BaseException:
        """Return what one client's work gave, or raised."""
        try:
            with self._numerics.applied(self._thorough):
                if not isinstance(half, LocalUpdate):
                    with client.tally.watching():
                        reply = half(client)
                elif self._lanes.vectorised:
                    (reply,) = self._lanes.train(half, [client])
                else:
                    reply = client.train(half)
        except FAULTS as error:  # a client that fails costs its reply, not the run
            self._shared.restored()
            return error
        if self._shared.restored():
            return RuntimeError("the client changed the shared parameters in place; work on copies")
        return reply

    def _answer(self, client: Client, reply: Reply | BaseException, exchange: Exchange, place: int) -> Answer:
        """Check a reply's form, encode it, keep its state."""
        if isinstance(reply, BaseException):
            return replace(_raised(client.index, exchange.work, reply), computed=client.tally.computed)
        try:
            reply = well_formed(reply)
        except FAULTS as error:
            return Answer(client.index, problem=Problem("malformed", "reply", described(error)))
        try:
            tensors, kept = dict(reply.tensors), dict(reply.state)
            transforms = self.plan.transforms if any(name.startswith("update/") for name in tensors) else []
            if transforms:
                tensors = placed(tensors, CPU)  # what travels is encoded there
            elif kept:  # what transforms keep waits for the next update
                kept |= {name: t for name, t in client.state.items() if name.startswith("transform/")}
            for number, transform in enumerate(transforms):
                prefix = f"transform/{number}/"
                update = {name: t for name, t in tensors.items() if name.startswith("update/")}
                own = {n.removeprefix(prefix): t.cpu() for n, t in client.state.items() if n.startswith(prefix)}
                seed = seed_for(client.seed, "transform", client.round, client.index, number)
                sent, own = transform.encode(update, own, seed)
                tensors = {n: t for n, t in tensors.items() if n not in update} | sent
                kept |= {prefix + n: t for n, t in own.items()}
            if kept:
                self.states.save(client.index, client.round, kept, exchange.needed(place))
        except FAULTS as error:
            return _raised(client.index, "transform", error)
        spent = cast(Metered, client.task).spent if self._metered else {}
        metrics = {"num-examples": float(len(client.shard)), **spent, **reply.metrics}
        return Answer(client.index, tensors, metrics, kept=bool(kept), computed=client.tally.computed)

    def _evaluate(self, exchange: Exchange, place: int) -> Answer:
        """Evaluate the shared model on a client's held-out part, and the client's own model where it has one."""
        index, task, personal = exchange.clients[place], self.plan.task, self.plan.personal
        try:
            held = self.plan.held_out(index)
            if len(held) == 0:
                return Answer(index, metrics={"num-examples": 0.0})
            with self._numerics.applied(self._thorough):
                metrics = task.summary(task.evaluate(self._shared.tensors(), held))
                if personal is not None:
                    state = placed(self.states.load(index, exchange.states[place]) or {}, self._numerics.device)
                    own = task.summary(task.evaluate(personal(self._shared.tensors(), state), held))
                    metrics |= {f"personal/{name}": value for name, value in own.items()}
            return Answer(index, metrics={"num-examples": float(len(held)), **metrics})
        except FAULTS as error:
            return _raised(index, "evaluate", error)


def _raised(client: int, stage: str, error: BaseException) -> Answer:
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return Answer(client, problem=Problem("raised", stage, described(error) + place))


@functools.lru_cache(maxsize=2)
def _client_side(text: str, base_dir: str, data_root: str, states: str) -> ClientSide:
    experiment = config.parse(text, base_dir=Path(base_dir))
    return ClientSide(plan(experiment, Path(data_root) if data_root else None), ClientStates(Path(states)))


def client_app() -> "ClientApp":
    """Return the Flower app that a client machine (or Flower's simulation) runs."""
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from fedjourney import messages

    app = ClientApp()

    def handler(category: str) -> Callable[[Message, Context], Message]:
        def handle(message: Message, context: Context) -> Message:
            told, node = messages.read_run(message.content), context.node_config
            states = Path(str(node.get("state-dir") or cache_dir() / "state")) / Path(told["run"]).name
            root = str(node.get("data-dir") or data_dir() or "")
            side = _client_side(told["experiment"], told["base-dir"], root, str(states))
            answers = list(side.answers(messages.read_exchange(message.content, category)))
            if any(answer.kept for answer in answers):
                settle()
            return Message(messages.write_answers(answers), reply_to=message)

        return handle

    app.train()(handler("train"))
    app.evaluate()(handler("evaluate"))

    @app.query()
    def query(message: Message, context: Context) -> Message:
        node = context.node_config
        held: dict[str, Any] = {
            "partition-id": int(node["partition-id"]),
            "num-partitions": int(node["num-partitions"]),
        }
        return Message(RecordDict({"node": ConfigRecord(held)}), reply_to=message)

    return app
