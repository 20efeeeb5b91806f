"""A federation of tensors alone: clients whose losses are quadratics with known optima, run by any strategy.

It does what the server and the clients do (asks, kept state that counts only with its reply, folds, further asks of
one round), without engine, files or data.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch.func import vmap

from fedjourney import plugins
from fedjourney.batching import Batch, minibatches
from fedjourney.data import Examples
from fedjourney.exchange import Answer, Problem, fold_block
from fedjourney.seeds import seed_for, shuffled
from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.tasks import Signature
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.updates import Client, LocalUpdate

SPLIT = (3, 2)  # numbers in "body" and in "head"


class Quadratic:
    """The loss of an example is ½ Σ a (w - b)², w the parameters `body` and `head` one behind the other."""

    signature = Signature({"a": (sum(SPLIT),), "b": (sum(SPLIT),)}, {"none": ()}, 1)

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size

    def init(self, seed: int) -> Tensors:
        return split(torch.full((sum(SPLIT),), 3.0, dtype=torch.float64))

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        w = torch.cat([params["body"], params["head"]])
        losses = 0.5 * (batch.x["a"] * (w - batch.x["b"]) ** 2).sum(1)
        return (losses * batch.mask).sum() / batch.mask.sum().clamp(min=1)

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        return minibatches(shard.x, shard.y, self.batch_size, seed)

    def fitness(self, population: Tensors, shard: Examples, seed: int) -> torch.Tensor:
        batch = next(iter(self.batches({}, shard, seed)))
        return -vmap(lambda params: self.loss(params, batch))(population)

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        whole = next(iter(minibatches(shard.x, shard.y, len(shard), 0)))
        return {"loss": self.loss(params, whole) * len(shard), "examples": torch.tensor(float(len(shard)))}

    def summary(self, sums: Tensors) -> dict[str, float]:
        return {"loss": float(sums["loss"] / sums["examples"])}


def split(w: torch.Tensor) -> Tensors:
    return dict(zip(("body", "head"), w.split(SPLIT), strict=True))


def flat(params: Tensors) -> torch.Tensor:
    return torch.cat([params["body"], params["head"]])


def alike(clients: int, examples: int = 4) -> list[Examples]:
    """Return shards that all have the same loss, of condition 4."""
    a = torch.tensor([0.5, 1.0, 1.5, 2.0, 1.0], dtype=torch.float64)
    b = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
    return [_shard(a, b, examples) for _ in range(clients)]


def unlike(clients: int, examples: int = 4) -> list[Examples]:
    """Return shards of which each has another curvature and another optimum."""
    draw = torch.Generator().manual_seed(1)
    a = 0.2 + 1.8 * torch.rand(clients, sum(SPLIT), generator=draw, dtype=torch.float64)
    b = 2 * torch.randn(clients, sum(SPLIT), generator=draw, dtype=torch.float64)
    return [_shard(a[i], b[i], examples) for i in range(clients)]


def _shard(a: torch.Tensor, b: torch.Tensor, examples: int) -> Examples:
    return Examples({"a": a.repeat(examples, 1), "b": b.repeat(examples, 1)}, {"none": torch.zeros(examples)})


def together(shards: list[Examples]) -> Examples:
    """Return all examples in one place."""
    x, y = ([getattr(shard, part) for shard in shards] for part in ("x", "y"))
    return Examples(*({name: torch.cat([one[name] for one in part]) for name in part[0]} for part in (x, y)))


def optimum(shards: list[Examples]) -> torch.Tensor:
    """Return where the mean of the clients' losses is least."""
    a, b = (torch.stack([shard.x[name][0] for shard in shards]) for name in ("a", "b"))
    return (a * b).sum(0) / a.sum(0)


@dataclass
class Federation:
    """A run: `step` is one round, `lost` the share of replies that vanish after the client has moved."""

    strategy: str
    options: dict[str, Any]
    shards: list[Examples]
    cohort: int
    update: dict[str, Any] = field(default_factory=lambda: {"name": "sgd", "learning_rate": 0.1})
    transforms: list[Transform] = field(default_factory=list)
    lost: float = 0.0
    seed: int = 0
    batch_size: int = 1
    params: Tensors = field(init=False)
    states: dict[int, Tensors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = Quadratic(self.batch_size)
        setting = Setting(self.seed, len(self.shards), self.cohort)
        table = plugins.resolve("strategy", {"name": self.strategy, **self.options})
        self.rounds: Rounds = plugins.build("strategy", table, setting)
        update = None
        if self.rounds.uses_update:
            update = plugins.build("update", plugins.resolve("update", self.update), self.task)
        self.halves = self.rounds.halves(self.task, update)
        self.params = self.task.init(0)

    def run(self, rounds: int) -> "Federation":
        for number in range(1, rounds + 1):
            self.step(number)
        return self

    def step(self, number: int) -> None:
        order = shuffled(seed_for(self.seed, "cohort", number), len(self.shards))
        ask = self.rounds.ask(number, self.params, sorted(islice(order, self.cohort)))
        kept: dict[int, Tensors] = {}
        while True:
            cohort = self.exchange(number, ask, kept)
            if not cohort.clients:
                return
            told = self.rounds.tell(number, self.params, cohort)
            if not isinstance(told, Ask):
                self.params = told
                self.states |= kept
                return
            ask = told

    def exchange(self, number: int, ask: Ask, kept: dict[int, Tensors]) -> Cohort:
        answers = [
            self.answer(number, ask, place, kept)
            for place in sorted(range(len(ask.clients)), key=ask.clients.__getitem__)
        ]
        like = self.rounds.like(self.params, ask.work)
        block = fold_block(self.rounds, self.transforms, like, answers)
        cohort = Cohort(sorted(ask.clients), work=ask.work)
        for answer in block.answers:
            if answer.problem is not None:
                assert answer.problem.kind == "lost", answer.problem
                kept.pop(answer.client, None)
                continue
            cohort.clients.append(answer.client)
            for name, value in answer.metrics.items():
                cohort.metrics.setdefault(name, []).append(value)
            if self.rounds.fold is None:
                cohort.rows.append(answer.tensors)
        if self.rounds.fold is not None and block.sums is not None:
            cohort.tensors = self.rounds.fold.finish(block.sums)
        return cohort

    def client(self, number: int, ask: Ask, place: int) -> Client:
        index = ask.clients[place]
        row = ask.rows[place] if ask.rows is not None else {}
        state = self.states.get(index, {})
        shard = together(self.shards) if self.rounds.pooled else self.shards[index]
        return Client(index, number, ask.shared, row, state, shard, self.task, self.seed)

    def answer(self, number: int, ask: Ask, place: int, kept: dict[int, Tensors]) -> Answer:
        client, half = self.client(number, ask, place), self.halves[ask.work]
        reply = client.train(half) if isinstance(half, LocalUpdate) else half(client)
        tensors, state = dict(reply.tensors), dict(reply.state)
        for place_, transform in enumerate(self.transforms):
            own = {n.removeprefix(f"t{place_}/"): t for n, t in client.state.items() if n.startswith(f"t{place_}/")}
            update = {n: t for n, t in tensors.items() if n.startswith("update/")}
            seed = seed_for(self.seed, "transform", number, client.index, place_)
            sent, own = transform.encode(update, own, seed)
            tensors = {n: t for n, t in tensors.items() if n not in update} | sent
            state |= {f"t{place_}/{n}": t for n, t in own.items()}
        if state:
            kept[client.index] = state
        if seed_for(self.seed, "lost", number, client.index) % 1000 < 1000 * self.lost:
            return Answer(client.index, problem=Problem("lost", "train", "no reply"))
        metrics = {"num-examples": float(len(client.shard)), **reply.metrics}
        return Answer(client.index, tensors, metrics, kept=bool(state))

    def models(self) -> list[torch.Tensor]:
        """Return what is used in the end: each client's own model where there are such, else the delivered one."""
        personal = getattr(self.halves["train"], "personal", None)
        shared = self.rounds.model(self.params)
        if personal is None:
            return [flat(shared)]
        return [flat(personal(shared, self.states.get(index, {}))) for index in range(len(self.shards))]
