"""What clients compute, counted where it happens: examples that a gradient was taken of, and examples only scored.

The counts are part of no digest and of no message's weight: they tell what a result cost.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from fedjourney.batching import WATCHED, Batch
from fedjourney.data import Examples
from fedjourney.tensors import Tensors


class Computed(NamedTuple):
    """Evaluations of one example each: with a gradient, and forward alone."""

    gradients: int = 0
    forwards: int = 0

    @property
    def total(self) -> int:
        """In forward-equivalents: a forward counts 1, the backward of a gradient 2 more."""
        return 3 * self.gradients + self.forwards


NOTHING = Computed()


@dataclass
class Tally:
    """Counts for one client in one exchange."""

    forwards: int = 0
    _masks: list[torch.Tensor] = field(default_factory=list)  # of every gradient, summed at the end

    def watching(self) -> "_Watching":
        """Count every gradient that is taken meanwhile, outside of lanes, by whomever."""
        return _Watching(self._note)

    def _note(self, batch: Batch) -> None:
        self._masks.append(batch.mask)

    def forget(self) -> None:
        """Begin again: what was computed in vain (in lanes that failed) is not charged."""
        self.forwards = 0
        self._masks.clear()

    def step(self, batch: Batch, gradients: int) -> None:
        """Count a step that was computed elsewhere (in lanes), with so many gradients of its batch."""
        self._masks += [batch.mask] * gradients

    def of(self, task: Any) -> Any:
        """Return the task with its scoring counted: what a `Work` sees."""
        return _Counted(task, self)

    @property
    def calls(self) -> int:
        """How many gradients were taken."""
        return len(self._masks)

    @property
    def computed(self) -> Computed:
        """What was counted."""
        masks = self._masks
        if len(masks) > 1:
            masks = [torch.cat([mask.reshape(-1) for mask in masks])]
        return Computed(int(masks[0].sum()) if masks else 0, self.forwards)


class _Watching:
    """A look at every gradient until it is left: no generator, as in `numerics`."""

    def __init__(self, tell: Callable[[Batch], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._before = WATCHED.set(self._tell)

    def __exit__(self, *raised: object) -> None:
        WATCHED.reset(self._before)


class _Counted:
    """A task that counts what is scored; everything else is the task's own.

    Candidates times examples: a task may say by `scored(shard)` how many examples one candidate's fitness looks at,
    else the whole shard is meant.
    """

    def __init__(self, task: Any, tally: Tally) -> None:
        self._task, self._tally = task, tally

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._task, name)
        if name == "fitness":  # made once somebody scores
            found = self.fitness = self._counted(found)
        return found

    def _counted(self, score: Any) -> Any:
        @functools.wraps(score)  # strategies look at its signature
        def fitness(population: Tensors, shard: Examples, *rest: Any, **named: Any) -> torch.Tensor:
            scored = getattr(self._task, "scored", len)
            self._tally.forwards += len(next(iter(population.values()))) * int(scored(shard))
            found: torch.Tensor = score(population, shard, *rest, **named)
            return found

        return fitness

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the loss; a forward of the batch."""
        self._tally.forwards += int(batch.mask.sum())
        found: torch.Tensor = self._task.loss(params, batch)
        return found
