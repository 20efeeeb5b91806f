"""A plan: everything that an experiment's text says, built; the same on the server and on every client."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedjourney import checks, config, numerics, plugins
from fedjourney.batching import Batch
from fedjourney.config import Experiment
from fedjourney.data import Dataset, Examples, Source
from fedjourney.errors import ConfigError, DataError
from fedjourney.memo import Memo
from fedjourney.numerics import Numerics
from fedjourney.partitions import Cuts, Shards
from fedjourney.quantum.layers import with_live_weights
from fedjourney.seeds import permutation, seed_for
from fedjourney.storage import cache_dir, data_dir
from fedjourney.strategies import Rounds, Setting
from fedjourney.tasks import Signature, Task, signature_of
from fedjourney.tensors import Tensors, placed
from fedjourney.transforms import Transform
from fedjourney.updates import LocalUpdate, Work


@dataclass(frozen=True)
class Plan:
    """Everything that an experiment's text says, built: the same on the server and on every client.

    Attributes:
        experiment: the checked experiment.
        dataset: decoded and split.
        shards: for each client the rows of `dataset.train` it holds; those that never train come last.
        task: loss, batches, metrics.
        rounds: the strategy.
        halves: its client halves by name.
        transforms: in the order of encoding.
        setting: what the strategy may know.
    """

    experiment: Experiment
    dataset: Dataset
    shards: Shards
    task: Task
    rounds: Rounds
    halves: dict[str, LocalUpdate | Work]
    transforms: list[Transform]
    setting: Setting

    @property
    def personal(self) -> Callable[[Tensors, Tensors], Tensors] | None:
        """How a client's own model comes from the shared one and its state, where the strategy has such models."""
        return getattr(self.halves.get("train"), "personal", None)

    @cached_property
    def numerics(self) -> Numerics:
        """What decides bits: device, arithmetic, lanes."""
        return Numerics.of(self.experiment["numerics"])

    @cached_property
    def placed(self) -> dict[str, Examples]:
        """The splits on the device that clients compute on, by name; brought there once."""
        return {name: getattr(self.dataset, name).on(self.numerics.device) for name in ("train", "validation", "test")}

    def score(self, params: Tensors, split: str, rows: slice) -> Tensors:
        """Return the sums of a model over some of the "validation" or "test" examples, computed on the device."""
        with self.numerics.applied():
            params = placed(params, self.numerics.device)
            return placed(self.task.evaluate(params, self.placed[split].cut(rows)), torch.device("cpu"))

    def shard(self, index: int) -> tuple[Examples, Examples]:
        """Return (train, held-out) examples of one client on the device."""
        return self.own(index), self.held_out(index)

    def own(self, index: int) -> Examples:
        """Return the examples that a client trains on, on the device."""
        if not self._trusted:  # its code may write to them
            return self._taken(self.rows(index)[0])
        return self._owned.get(index, lambda: self._taken(self.rows(index)[0]))

    @cached_property
    def _owned(self) -> Memo[Examples]:
        return Memo(16 * 2**20, lambda found: found.nbytes)

    def held_out(self, index: int) -> Examples:
        """Return the examples of a client that it never trains on, on the device."""
        return self._taken(self.rows(index)[1])

    def _taken(self, rows: np.ndarray) -> Examples:
        """Return the examples at ascending rows: views where they lie side by side and no client's code is strange."""
        train = self.placed["train"]
        if self._trusted and len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            return train.cut(slice(int(rows[0]), int(rows[-1]) + 1))
        return train.take(torch.from_numpy(rows))

    @cached_property
    def _trusted(self) -> bool:
        return not self.experiment.foreign

    @cached_property
    def pool(self) -> Examples:
        """The training examples of all clients together, which only a simulation has; held-out ones stay apart."""
        rows = np.concatenate([self.rows(index)[0] for index in range(self.setting.clients)])
        return self.placed["train"].take(torch.from_numpy(rows))

    def rows(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of one client's (train, held-out) examples; the held-out share is drawn class by class.

        A client that never trains holds out everything.
        """
        return self._dealt.get(index, lambda: self._deal(index))

    @cached_property
    def _dealt(self) -> Memo[tuple[np.ndarray, np.ndarray]]:
        return Memo(16 * 2**20, lambda rows: rows[0].nbytes + rows[1].nbytes)

    def _deal(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.shards[index]
        if index >= self.setting.clients:
            return rows[:0], rows
        share = self.experiment["experiment"]["holdout"]
        count = min(round(share * len(rows)), len(rows) - 1)  # one example at least is trained on
        if not count:
            return rows, rows[:0]
        held = np.zeros(len(rows), dtype=bool)
        order = permutation(seed_for(self.experiment.seed, "holdout", index), len(rows))
        target = next(iter(self.dataset.train.y.values()))
        if target.dim() == 1:
            order = order[np.argsort(target.numpy()[rows[order]], kind="stable")]
        held[order[(np.arange(count) * len(rows)) // count]] = True
        return rows[~held], rows[held]


def plan(experiment: Experiment, data_root: Path | None = None, given: tuple[Dataset, Shards] | None = None) -> Plan:
    """Build an experiment (see `_plan`); messages begin with the experiment's file."""
    try:
        experiment = numerics.with_device(experiment)
        built = _plan(experiment, given or held(experiment, data_root))
        experiment = numerics.with_lanes(experiment, built.setting.cohort, lambda: _one_batch(built))
        built = replace(built, experiment=experiment)
        if given is None:
            checks.check_fit(experiment, built.task, lambda: _first_shard(built))
        return built
    except (ConfigError, DataError) as error:
        raise type(error)(f"{experiment.where}{error}") from None


def _first_shard(built: Plan) -> Examples:
    """Return the first client's training examples, on the CPU."""
    return built.dataset.train.take(torch.from_numpy(built.rows(0)[0]))


def _one_batch(built: Plan) -> tuple[Task, Tensors, Batch]:
    """Return the task, parameters and a batch, on the CPU."""
    params = built.task.init(0)
    return built.task, params, next(iter(built.task.batches(params, _first_shard(built), 0)))


def held(experiment: Experiment, data_root: Path | None) -> tuple[Dataset, Shards]:
    """Return the data set, and who holds what.

    Raises:
        ConfigError: it cannot be dealt as asked.
        DataError: the data cannot be had.
    """
    seed = experiment.seed
    source = Source(data_root or data_dir(), cache_dir(), seed_for(seed, "data"), experiment.base_dir)
    dataset = _expected("data", experiment, plugins.build("data", experiment["data"], source), Dataset)
    checks.check_data(dataset)
    splits = {name: getattr(dataset, name).laid_out() for name in ("train", "validation", "test")}
    dataset = replace(dataset, **splits)
    checks.check_column(experiment["partition"], dataset)
    count = len(dataset.train)
    shards = plugins.build("partition", experiment["partition"], dataset.columns, count, seed_for(seed, "partition"))
    checks.check_shards(experiment["partition"]["name"], shards, count)
    return dataset, Cuts.of(shards) if isinstance(shards, list) else shards


def _plan(experiment: Experiment, given: tuple[Dataset, Shards]) -> Plan:
    """Build model, task and strategy over data and shards; everything that can be wrong is found here.

    Raises:
        ConfigError: the parts do not fit together.
    """
    seed, (dataset, shards) = experiment.seed, given
    clients = len(shards) - shards.unseen
    setting = Setting(seed, clients, config.cohort_size(experiment, clients))
    signature = signature_of(dataset)
    dtype = getattr(torch, experiment["numerics"]["dtype"])

    def make_model(shapes: Signature = signature) -> torch.nn.Module:
        model = plugins.build("model", experiment["model"], shapes)
        return with_live_weights(_expected("model", experiment, model, torch.nn.Module))

    task = plugins.build("task", experiment["task"], make_model, signature, dtype)
    rounds = _expected("strategy", experiment, _strategy(experiment, setting), Rounds)
    update = None
    if rounds.uses_update:
        update = _expected("update", experiment, plugins.build("update", experiment["update"], task), LocalUpdate)
    if rounds.pooled and not isinstance(shards, Cuts):
        raise ConfigError(
            f'[strategy] "{experiment["strategy"]["name"]}" puts everybody\'s examples together, but '
            f'[partition] "{experiment["partition"]["name"]}" makes clients only when they are drawn. '
            "Take a partition that deals the examples out."
        )
    transforms = [plugins.build("transform", table) for table in experiment["transform"]]
    sends = not rounds.pooled and any(name.startswith("update/") for name in rounds.like(task.init(0)))
    if transforms and not sends:
        raise ConfigError(
            f'[[transform]] acts on updates, but strategy "{experiment["strategy"]["name"]}" sends none. '
            "Remove [[transform]]."
        )
    halves = rounds.halves(task, update)
    if not isinstance(halves, dict) or "train" not in halves:
        raise ConfigError(
            f'[strategy] name: expected `halves` of "{experiment["strategy"]["name"]}" to be what clients do by name, '
            f'"train" among them, got {halves!r}.'
        )
    checks.check_true_gradient(experiment, task, shards)
    if transforms:
        _try_out(transforms, rounds.like(task.init(0)))
    return Plan(experiment, dataset, shards, task, rounds, halves, transforms, setting)


def _try_out(transforms: list[Transform], like: Tensors) -> None:
    """Encode and decode an update as clients will: transforms that do not fit each other, or it, show it here.

    Raises:
        ConfigError: with what one of them said.
    """
    sent = {name: torch.zeros_like(tensor) for name, tensor in like.items() if name.startswith("update/")}
    try:
        for transform in transforms:
            sent, _ = transform.encode(sent, {}, 0)
        for transform in reversed(transforms):
            sent = transform.decode(sent, like)
    except Exception as error:
        raise ConfigError(f"[[transform]]: these cannot follow each other here ({error}).") from None


def _strategy(experiment: Experiment, setting: Setting) -> Any:
    table = experiment["strategy"]
    found = plugins.load("strategy", table["name"])
    if isinstance(found, type) and not issubclass(found, Rounds):
        raise ConfigError(
            "[strategy] name: expected a class derived from fedjourney.strategies.Rounds, or from Flower's "
            f"flwr.serverapp.strategy.Strategy, got {found.__name__}. Ours are: "
            f"{', '.join(plugins.names('strategy'))}."
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
