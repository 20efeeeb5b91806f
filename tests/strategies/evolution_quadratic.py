"""A federation of tensors alone: quadratics with a known optimum, and rounds played as the adapter plays them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from fedjourney import plugins
from fedjourney.batching import Batch
from fedjourney.data import Examples
from fedjourney.seeds import seed_for
from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate, Reply
from fedjourney.wire import encoded_size

SHAPES = {"w": (2, 3), "b": (2,)}


class Quadratic:
    """Loss ½ mean_i Σ_j c_j (p_j - x_ij)²: the optimum of the pooled loss is the mean of all x_i."""

    signature: Any = None
    scales: ClassVar = {"w": 1.0, "b": 2.0}

    def __init__(self, shapes: dict[str, tuple[int, ...]] = SHAPES) -> None:
        self.shapes = shapes

    def init(self, seed: int) -> Tensors:
        chance = torch.Generator().manual_seed(seed % 2**32)
        return {name: torch.randn(*shape, generator=chance, dtype=torch.float64) for name, shape in self.shapes.items()}

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        parts = [self.scales[n] * ((p - batch.x[n]) ** 2).flatten(1).sum(1) for n, p in params.items()]
        return 0.5 * sum(parts).mean()  # type: ignore[union-attr]

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        yield Batch(shard.x, {}, torch.ones(len(shard)), torch.tensor(seed))

    def fitness(self, population: Tensors, shard: Examples, seed: int) -> torch.Tensor:
        parts = [
            self.scales[n] * ((p.unsqueeze(1) - shard.x[n].unsqueeze(0)) ** 2).flatten(2).sum(2)
            for n, p in population.items()
        ]
        return -0.5 * sum(parts).mean(1)  # type: ignore[union-attr]


def shards(clients: int, dtype: torch.dtype, shapes: dict[str, tuple[int, ...]]) -> list[Examples]:
    chance = torch.Generator().manual_seed(7)
    sizes = [3 + index for index in range(clients)]
    draw = [{n: torch.randn(size, *s, generator=chance, dtype=dtype) for n, s in shapes.items()} for size in sizes]
    return [Examples(x, {}) for x in draw]


@dataclass
class Federation:
    """N clients, a strategy, and everything that the adapter keeps between rounds."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    update: dict[str, Any] = field(default_factory=lambda: {"learning_rate": 0.2, "epochs": 2})
    clients: int = 4
    cohort: Callable[[int], list[int]] | None = None  # by round; default: everyone
    lost: Callable[[int, int], bool] = lambda round, client: False  # replies lost after the client has worked
    dtype: torch.dtype = torch.float64
    seed: int = 3
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: SHAPES)

    def __post_init__(self) -> None:
        self.task, self.shards = Quadratic(self.shapes), shards(self.clients, self.dtype, self.shapes)
        size = len(self.cohort(1)) if self.cohort else self.clients
        self.setting = Setting(self.seed, self.clients, size)
        table = plugins.resolve("strategy", {"name": self.name, **self.options})
        self.rounds: Rounds = plugins.build("strategy", table, self.setting)
        local = plugins.build("update", plugins.resolve("update", {"name": "sgd", **self.update}), self.task)
        self.halves = self.rounds.halves(self.task, local if self.rounds.uses_update else None)  # type: ignore[arg-type]
        self.params = {n: t.to(self.dtype) for n, t in self.task.init(self.seed).items()}
        self.states: dict[int, Tensors] = {}
        self.round = 0
        self.before: dict[int, Tensors] = {}  # round -> the model it began with
        self.took_part: dict[int, int] = {}  # client -> the last round its reply counted
        self.up: dict[tuple[int, int, str], int] = {}  # (round, client, work) -> bytes, header and all
        self.down: dict[tuple[int, int, str], int] = {}

    @property
    def optimum(self) -> Tensors:
        return {n: torch.cat([s.x[n] for s in self.shards]).mean(0) for n in self.shapes}

    def gap(self, params: Tensors | None = None) -> float:
        """Return the pooled loss above its optimum."""
        whole = Examples({n: torch.cat([s.x[n] for s in self.shards]) for n in self.shapes}, {})
        batch = next(iter(self.task.batches({}, whole, 0)))
        return float(self.task.loss(params or self.params, batch) - self.task.loss(self.optimum, batch))

    def play(self, rounds: int) -> "Federation":
        for _ in range(rounds):
            self.round += 1
            self.before[self.round] = self.params
            drawn = self.cohort(self.round) if self.cohort else list(range(self.clients))
            result: Tensors | Ask = self.rounds.ask(self.round, self.params, drawn)
            while isinstance(result, Ask):
                result = self.rounds.tell(self.round, self.params, self.exchange(result))
            self.params = result
        return self

    def exchange(self, ask: Ask) -> Cohort:
        rows = dict(zip(ask.clients, ask.rows, strict=True)) if ask.rows is not None else {}
        cohort, folded, kept = Cohort(sorted(ask.clients), work=ask.work), None, {}
        like, fold = self.rounds.like(self.params, ask.work), self.rounds.fold
        for index in cohort.asked:
            reply = self.reply(index, ask, rows.get(index, {}))
            if self.lost(self.round, index):
                continue
            assert reply.tensors.keys() == like.keys()
            for name, tensor in reply.tensors.items():
                assert (tensor.shape, tensor.dtype) == (like[name].shape, like[name].dtype), name
            cohort.clients.append(index)
            self.took_part[index] = self.round
            for name, value in reply.metrics.items():
                cohort.metrics.setdefault(name, []).append(value)
            if reply.state:
                kept[index] = dict(sorted(reply.state.items()))  # as a file keeps it: in order of names
            if fold is None:
                cohort.rows.append(reply.tensors)
            else:
                folded = fold.add(folded, reply.tensors, self.rounds.weight(reply))
        if fold is not None and folded is not None:
            cohort.tensors = fold.finish(folded)
        self.states |= kept
        return cohort

    def reply(self, index: int, ask: Ask, row: Tensors) -> Reply:
        for tensor in (*ask.shared.values(), *row.values()):
            assert tensor.dim() > 0, "numbers without an axis do not survive the wire"
        self.down[self.round, index, ask.work] = encoded_size(ask.shared) + (encoded_size(row) if ask.rows else 0)
        shared, own = _copied(ask.shared), _copied(row)
        client = Client(
            index, self.round, shared, own, self.states.get(index, {}), self.shards[index], self.task, self.seed
        )  # type: ignore[arg-type]
        half = self.halves[ask.work]
        answer = client.train(half) if isinstance(half, LocalUpdate) else half(client)
        metrics = {"num-examples": float(len(self.shards[index])), **answer.metrics}
        self.up[self.round, index, ask.work] = encoded_size(answer.tensors, metrics)
        return Reply(_copied(answer.tensors), metrics, answer.state)


def _copied(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def sampled(size: int, clients: int, seed: int = 0) -> Callable[[int], list[int]]:
    """Return cohorts of `size` of `clients`, seeded by the round."""

    def draw(round: int) -> list[int]:
        chance = torch.Generator().manual_seed(seed_for(seed, "cohort", round) % 2**32)
        return sorted(torch.randperm(clients, generator=chance)[:size].tolist())

    return draw
