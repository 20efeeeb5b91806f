"""Lanes: the local updates of several clients as one vectorised, optionally compiled, loop of steps."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import torch
from torch.func import vmap

from fedjourney.batching import Batch, Pass, apart, gradient, gradient_in_lanes
from fedjourney.compiler import Step, compiled
from fedjourney.numerics import Numerics
from fedjourney.seeds import seed_for
from fedjourney.tally import Tally
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, Client, LocalUpdate, Reply

_log = logging.getLogger("fedjourney")


class Lanes:
    """Trains clients as `[numerics]` says: `lanes` of them at once under `torch.func.vmap`, compiled or not.

    `fell_back` says whether a step had to be computed in a plainer way than asked for.

    With one lane and no compiler there is nothing to vectorise, and a client's update is a plain loop. Lanes are
    always filled up to their number with idle copies, and a client with fewer steps idles to the end, so that
    neither neighbours nor the place in a block change a client's bits.
    """

    def __init__(self, numerics: Numerics) -> None:
        self.number = numerics.lanes
        self._compile, self._agreement = numerics.compile, numerics.agreement
        self.fell_back = False
        self._steps: dict[int, Step] = {}
        self._gradients: dict[int, int] = {}  # that one step of an update takes

    @property
    def vectorised(self) -> bool:
        """Whether `train` is to be used at all."""
        return self.number > 1 or self._compile

    def train(self, update: LocalUpdate, clients: list[Client]) -> Iterator[Reply]:
        """Yield each client's reply; at most `lanes` clients."""
        if not clients:
            return
        carries = [update.start(client.shared, client.row, client.state) for client in clients]
        carries += carries[:1] * (self.number - len(clients))
        params, extra = _stack([carry.params for carry in carries]), _stack([carry.extra for carry in carries])
        if self.number == 1:
            params = _copied(params)  # a step may change them in place
        for number in range(update.passes):
            passes = [
                client.task.batches(
                    {name: tensor[lane] for name, tensor in params.items()},
                    client.shard,
                    seed_for(client.seed, "batches", client.round, client.index, number),
                )
                for lane, client in enumerate(clients)
            ]
            for batch, active in self._batches(update, clients, passes):
                if active is None:
                    params, extra = self._step(update, (params, extra), batch)
                else:
                    stepped = self._step(update, (_copied(params), extra), batch)
                    params, extra = _chosen(active, stepped[0], params), _chosen(active, stepped[1], extra)
        for lane, client in enumerate(clients):
            own = Carry({n: t[lane] for n, t in params.items()}, {n: t[lane] for n, t in extra.items()})
            yield update.finish(client.shared, own)

    def _batches(
        self, update: LocalUpdate, clients: list[Client], passes: Sequence[Iterable[Batch]]
    ) -> Iterator[tuple[Batch, torch.Tensor | None]]:
        """Yield step by step (batch [L, B, …], which lanes are active [L]: None, all of them), and count each step."""
        even = [one for one in passes if isinstance(one, Pass)]
        if len(even) == self.number and len({(one.steps, one.size) for one in even}) == 1:
            for stacks in zip(*(one.stacks() for one in even), strict=True):
                for batch in apart(_batch(list(stacks), dim=1)):
                    yield batch, None
                for client, stack in zip(clients, stacks, strict=True):
                    client.tally.step(stack, self._gradients[id(update)])
            return
        for batches in zip_longest(*passes):
            some = next(batch for batch in batches if batch is not None)
            filled = [some if batch is None else batch for batch in batches]
            batch = _batch(filled + [some] * (self.number - len(filled)))
            idle = [False] * (self.number - len(batches))
            active = torch.tensor([one is not None for one in batches] + idle)
            yield batch, None if bool(active.all()) else active.to(batch.mask.device)
            for client, one in zip(clients, batches, strict=True):
                if one is not None:
                    client.tally.step(one, self._gradients[id(update)])

    def _step(self, update: LocalUpdate, carry: tuple[Tensors, Tensors], batch: Batch) -> tuple[Tensors, Tensors]:
        """Step all lanes, maybe in place; the first time also one by one in eager mode, to compare."""
        key = id(update)
        if key not in self._steps:
            self._steps[key] = self._made(update, carry, batch)
        return self._steps[key](*carry, batch)

    def _made(self, update: LocalUpdate, carry: tuple[Tensors, Tensors], batch: Batch) -> Step:
        """Return the vectorised step if it agrees with eager; else fall back, with a warning, as far as need be."""

        def alone(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
            return tuple(update.step(Carry(params, extra), batch, gradient_in_lanes))  # type: ignore[return-value]

        def one_by_one(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
            stepped = [
                update.step(Carry(_lane(params, i), _lane(extra, i)), _lane_of(batch, i), gradient)
                for i in range(self.number)
            ]
            return _stack([carry.params for carry in stepped]), _stack([carry.extra for carry in stepped])

        expected = one_by_one(*carry, batch)
        counted = Tally()
        with counted.watching():
            update.step(Carry(_lane(carry[0], 0), _lane(carry[1], 0)), _lane_of(batch, 0), gradient)
        self._gradients[id(update)] = counted.calls
        together: Step = vmap(alone)
        tried: list[tuple[str, Step]] = [("vectorised", together)]
        if self._compile:
            tried.insert(0, ("compiled", compiled(together)))
        for kind, step in tried:
            try:
                got = step(_copied(carry[0]), carry[1], batch)
                wrong = _difference(got, expected)
            except torch.OutOfMemoryError:
                raise  # fewer lanes would do
            except Exception as error:  # no compiler, an operation that vmap does not know, …
                _log.warning("the %s step cannot be used here, falling back: %s", kind, str(error).partition("\n")[0])
                continue
            if wrong <= self._agreement:
                self.fell_back = kind != tried[0][0]
                return step
            _log.warning("the %s step differs from eager by %.1e, falling back", kind, wrong)
        self.fell_back = True
        return one_by_one


def _lane(tensors: Tensors, lane: int) -> Tensors:
    return {name: tensor[lane] for name, tensor in tensors.items()}


def _lane_of(batch: Batch, lane: int) -> Batch:
    return Batch(_lane(batch.x, lane), _lane(batch.y, lane), batch.mask[lane], batch.key[lane])


def _copied(tensors: Tensors) -> Tensors:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _stack(rows: list[Tensors], dim: int = 0) -> Tensors:
    return {name: _stacked([row[name] for row in rows], dim) for name in rows[0]}


def _stacked(rows: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Stack them; a single one is not copied."""
    return rows[0].unsqueeze(dim) if len(rows) == 1 else torch.stack(rows, dim)


def _batch(batches: list[Batch], dim: int = 0) -> Batch:
    """Return the batches of all lanes as one; of stacks of batches, along their second dimension."""
    return Batch(
        _stack([batch.x for batch in batches], dim),
        _stack([batch.y for batch in batches], dim),
        _stacked([batch.mask for batch in batches], dim),
        _stacked([batch.key for batch in batches], dim),
    )


def _chosen(active: torch.Tensor, new: Tensors, old: Tensors) -> Tensors:
    """Return `new` in active lanes, `old` in the others."""
    return {name: torch.where(active.view(-1, *[1] * (t.dim() - 1)), t, old[name]) for name, t in new.items()}


def _difference(got: tuple[Tensors, Tensors], expected: tuple[Tensors, Tensors]) -> float:
    """Return the largest difference, relative to the largest number of its tensor."""
    return max(
        float((new[name] - old[name]).abs().max() / old[name].abs().max().clamp(min=1.0))
        for new, old in zip(got, expected, strict=True)
        for name in old
        if old[name].is_floating_point() and old[name].numel()
    )
