"""The client side, the same on every engine: a message comes, a local update runs, a reply goes."""

import functools
import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedjourney import config, plugins
from fedjourney.config import Experiment
from fedjourney.data import Dataset, Examples, Source
from fedjourney.errors import ConfigError, DataError
from fedjourney.seeds import permutation, seed_for
from fedjourney.storage import ClientStates, cache_dir, data_dir
from fedjourney.strategies import Rounds, Setting
from fedjourney.tasks import Task, signature_of
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.updates import Client, LocalUpdate, Work

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment's text says, built: the same on the server and on every client.

    Attributes:
        experiment: the checked experiment.
        dataset: decoded and split.
        shards: for each client the rows of `dataset.train` it holds.
        task: loss, batches, metrics.
        rounds: the strategy.
        halves: its client halves by name.
        transforms: in the order of encoding.
        setting: what the strategy may know.
    """

    experiment: Experiment
    dataset: Dataset
    shards: list[np.ndarray]
    task: Task
    rounds: Rounds
    halves: dict[str, LocalUpdate | Work]
    transforms: list[Transform]
    setting: Setting

    def shard(self, index: int) -> tuple[Examples, Examples]:
        """Return (train, held-out) examples of one client; the held-out share is drawn class by class."""
        rows = self.shards[index]
        share = self.experiment["experiment"]["holdout"]
        count = round(share * len(rows)) if len(rows) > 1 else 0
        held = np.zeros(len(rows), dtype=bool)
        if count:
            order = permutation(seed_for(self.experiment.seed, "holdout", index), len(rows))
            target = next(iter(self.dataset.train.y.values()))
            if target.dim() == 1:
                order = order[np.argsort(target.numpy()[rows[order]], kind="stable")]
            held[order[(np.arange(count) * len(rows)) // count]] = True
        train, own = torch.from_numpy(rows[~held]), torch.from_numpy(rows[held])
        return self.dataset.train.take(train), self.dataset.train.take(own)


def plan(experiment: Experiment, data_root: Path | None = None) -> Plan:
    """Build an experiment (see `_plan`); messages begin with the experiment's file."""
    try:
        return _plan(experiment, data_root)
    except (ConfigError, DataError) as error:
        raise type(error)(f"{experiment.where}{error}") from None


def _plan(experiment: Experiment, data_root: Path | None) -> Plan:
    """Build data, shards, model, task and strategy; everything that can be wrong is found here.

    Raises:
        ConfigError: the parts do not fit together.
        DataError: the data cannot be had.
    """
    seed = experiment.seed
    source = Source(data_root or data_dir(), cache_dir(), seed_for(seed, "data"), experiment.base_dir)
    dataset: Dataset = plugins.build("data", experiment["data"], source)
    shards = plugins.build(
        "partition", experiment["partition"], dataset.columns, len(dataset.train), seed_for(seed, "partition")
    )
    setting = Setting(seed, len(shards), config.cohort_size(experiment, len(shards)))
    signature = signature_of(dataset)
    dtype = getattr(torch, experiment["numerics"]["dtype"])

    def make_model() -> torch.nn.Module:
        return _expected("model", experiment, plugins.build("model", experiment["model"], signature), torch.nn.Module)

    task = plugins.build("task", experiment["task"], make_model, signature, dtype)
    rounds = _expected("strategy", experiment, _strategy(experiment, setting), Rounds)
    update = None
    if rounds.uses_update:
        update = _expected("update", experiment, plugins.build("update", experiment["update"], task), LocalUpdate)
    transforms = [plugins.build("transform", table) for table in experiment["transform"]]
    if transforms and not rounds.uses_update:
        raise ConfigError(
            f'[[transform]] acts on updates, but strategy "{experiment["strategy"]["name"]}" sends none. '
            "Remove [[transform]]."
        )
    return Plan(experiment, dataset, shards, task, rounds, rounds.halves(task, update), transforms, setting)


def _strategy(experiment: Experiment, setting: Setting) -> Any:
    table = experiment["strategy"]
    found = plugins.load("strategy", table["name"])
    if isinstance(found, type) and not issubclass(found, Rounds):
        raise ConfigError(
            f"[strategy] name: expected a class derived from fedjourney.strategies.Rounds, got {found.__name__}. "
            f"A Flower strategy is not run here yet; ours are: {', '.join(plugins.names('strategy'))}."
        )
    return plugins.build("strategy", table, setting)


def _expected(kind: str, experiment: Experiment, built: Any, wanted: type[Any]) -> Any:
    """Return what a plug-in built, if it is what its kind must build.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(built, wanted):
        raise ConfigError(
            f'[{kind}] name: expected "{experiment[kind]["name"]}" to give a {wanted.__name__}, '
            f"got a {type(built).__name__}."
        )
    return built


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
            states = Path(str(node.get("state-dir") or cache_dir() / "state")) / str(message.metadata.run_id)
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
