"""The client side, the same on every engine: a message comes, a local update runs, a reply goes."""

import functools
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fedjourney import config
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.storage import ClientStates, cache_dir, data_dir
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp


@dataclass
class Answer:
    """A client's reply before it is put into a message; `error` is "kind|stage|message" or empty."""

    tensors: Tensors
    metrics: dict[str, float]
    error: str = ""
    kept: bool = False  # whether the client kept state for this round


@dataclass
class ClientSide:
    """Answers asks for any client whose data it holds."""

    plan: Plan
    states: ClientStates

    def answer(self, category: str, shared: Tensors, row: Tensors, ask: dict[str, Any]) -> Answer:
        """Train or evaluate one client; whatever goes wrong becomes an error that names the stage."""
        stage = ["shard"]
        try:  # a client that fails costs its reply, not the run
            with torch_threads(self.plan.experiment["numerics"]["threads"]):
                if category == "evaluate":
                    return self._evaluate(shared, ask)
                return self._train(shared, row, ask, stage)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return Answer({}, {}, f"raised|{stage[0]}|{type(error).__name__}: {error} ({place})")

    def _train(self, shared: Tensors, row: Tensors, ask: dict[str, Any], stage: list[str]) -> Answer:
        index, round_, seed = ask["client"], ask["round"], self.plan.experiment.seed
        shard, _ = self.plan.shard(index)
        stage[0] = "state"
        state = self.states.load(index, ask["state-round"])
        if state is None:
            return Answer({}, {}, f"state lost|state|no state of round {ask['state-round']} is kept here")
        stage[0] = ask["work"]
        half = self.plan.halves[ask["work"]]
        client = Client(index, round_, shared, row, state, shard, self.plan.task, seed)
        reply = client.train(half) if isinstance(half, LocalUpdate) else half(client)
        stage[0] = "transform"
        tensors, kept = dict(reply.tensors), dict(reply.state)
        for number, transform in enumerate(self.plan.transforms):
            update = {name: t for name, t in tensors.items() if name.startswith("update/")}
            own = {
                n.removeprefix(f"transform/{number}/"): t
                for n, t in state.items()
                if n.startswith(f"transform/{number}/")
            }
            sent, own = transform.encode(update, own, seed_for(seed, "transform", round_, index, number))
            tensors = {n: t for n, t in tensors.items() if n not in update} | sent
            kept |= {f"transform/{number}/{n}": t for n, t in own.items()}
        if kept:
            self.states.save(index, round_, kept)
        return Answer(tensors, {"num-examples": float(len(shard)), **reply.metrics}, kept=bool(kept))

    def _evaluate(self, shared: Tensors, ask: dict[str, Any]) -> Answer:
        _, held = self.plan.shard(ask["client"])
        if len(held) == 0:
            return Answer({}, {"num-examples": 0.0})
        metrics = self.plan.task.summary(self.plan.task.evaluate(shared, held))
        return Answer({}, {"num-examples": float(len(held)), **metrics})


class torch_threads:  # noqa: N801 - used as a function
    """Compute with a number of threads, then restore what was set before."""

    def __init__(self, threads: int) -> None:
        self._threads, self._before = threads, torch.get_num_threads()

    def __enter__(self) -> None:
        """Set the number, where it differs."""
        if self._threads != self._before:
            torch.set_num_threads(self._threads)

    def __exit__(self, *exception: object) -> None:
        """Restore it."""
        if self._threads != self._before:
            torch.set_num_threads(self._before)


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
            shared = messages.to_tensors(messages.arrays_of(message.content, "arrays"))
            asks = messages.read_asks(message.content)
            told, node = asks[0][1], context.node_config
            states = Path(str(node.get("state-dir") or cache_dir() / "state")) / Path(told["run"]).name
            root = str(node.get("data-dir") or data_dir() or "")
            side = _client_side(told["experiment"], told["base-dir"], root, str(states))
            answers = {ask["client"]: side.answer(category, shared, row, ask) for row, ask in asks}
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


def finite(tensors: Tensors, metrics: dict[str, float]) -> bool:
    """Return whether every number of a reply is finite."""
    return all(math.isfinite(v) for v in metrics.values()) and all(
        bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point()
    )
