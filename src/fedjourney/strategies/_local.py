"""What strategies do to a local update: corrected gradients, more to remember, probes of what it does.

Everything here wraps somebody else's `LocalUpdate` and stays pure, so that engines may run it in lanes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch

from fedjourney.batching import Batch, Gradient, Loss
from fedjourney.errors import ConfigError
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, zeros

Remember: TypeAlias = Callable[[Tensors, Tensors, Tensors], Tensors]
"""(shared, row, state) -> what every step and the end may look at."""
Correct: TypeAlias = Callable[[Tensors, Tensors, Tensors], Tensors]
"""(gradients, parameters, remembered) -> gradients."""
Finish: TypeAlias = Callable[[Reply, Tensors, Tensors, float], Reply]
"""(the inner update's reply, shared, remembered, steps taken) -> reply."""

_INNER, _OWN, _STEPS = "inner", "own", "steps"


def under(prefix: str, tensors: Tensors) -> Tensors:
    """Return tensors as a group: each name behind `prefix/`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def group(prefix: str, tensors: Tensors) -> Tensors:
    """Return the group behind `prefix/`, names without it.

    >>> group("a", {"a/x": torch.ones(()), "b/x": torch.zeros(())})
    {'x': tensor(1.)}
    """
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")}


def _same(shared: Tensors) -> Tensors:
    return shared


def extended(
    update: LocalUpdate,
    remember: Remember,
    correct: Correct | None = None,
    finish: Finish | None = None,
    model: Callable[[Tensors], Tensors] = _same,
) -> LocalUpdate:
    """Return the update with something to remember, corrected gradients and another end; steps are counted.

    Args:
        update: what is extended; its own bits do not change where `correct` adds nothing.
        remember: what is remembered from start to end; the same names for every client.
        correct: changes the gradient of every step, before momentum and the like.
        finish: changes the reply.
        model: picks the parameters out of what is shared.
    """

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        carry = update.start(model(shared), row, state)
        steps = next(iter(carry.params.values())).new_zeros(())
        own = under(_OWN, remember(shared, row, state))
        return Carry(carry.params, under(_INNER, carry.extra) | own | {_STEPS: steps})

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        own = group(_OWN, carry.extra)

        def corrected(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
            grads, value = gradient(loss, params, batch)
            return (grads if correct is None else correct(grads, params, own)), value

        inner = update.step(Carry(carry.params, group(_INNER, carry.extra)), batch, corrected)
        extra = under(_INNER, inner.extra) | under(_OWN, own) | {_STEPS: carry.extra[_STEPS] + 1}
        return Carry(inner.params, extra)

    def end(shared: Tensors, carry: Carry) -> Reply:
        reply = update.finish(model(shared), Carry(carry.params, group(_INNER, carry.extra)))
        if finish is None:
            return reply
        return finish(reply, shared, group(_OWN, carry.extra), float(carry.extra[_STEPS]))

    return LocalUpdate(update.passes, start, step, end, update.personal)


def shard_gradient(task: Task) -> LocalUpdate:
    """Return the update that answers minus the gradient of a shard's mean loss, at fixed parameters batch by batch."""

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        one = next(iter(shared.values())).new_zeros(())
        return Carry(dict(shared), under("sum", zeros(shared)) | {"loss": one, "count": one})

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        grads, loss = gradient(task.loss, carry.params, batch)
        sums, count = group("sum", carry.extra), batch.mask.sum().to(loss.dtype)
        sums = {name: sums[name] + count * g for name, g in grads.items()}
        told = {"loss": carry.extra["loss"] + count * loss, "count": carry.extra["count"] + count}
        return Carry(carry.params, under("sum", sums) | told)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        count = max(float(carry.extra["count"]), 1.0)
        sums = group("sum", carry.extra)
        downhill = dict(zip(sums, torch._foreach_div(list(sums.values()), -count), strict=True))
        return Reply(under("update", downhill), {"loss": float(carry.extra["loss"]) / count}, {})

    return LocalUpdate(1, start, step, finish)


def proximal(update: LocalUpdate, mu: float) -> LocalUpdate:
    """Return the update on its loss + mu/2 |w - w_t|², w_t as received (Li et al. 2020, equation 2)."""

    def correct(grads: Tensors, params: Tensors, own: Tensors) -> Tensors:
        return {name: g + mu * (params[name] - own[name]) for name, g in grads.items()}

    return extended(update, lambda shared, row, state: shared, correct)


def with_frozen(update: LocalUpdate, trained: Callable[[str], bool]) -> LocalUpdate:
    """Return the update on some parameters alone; the others are seen by the loss and never move.

    Its reply's `"update/…"` group names only what is trained.
    """

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        carry = update.start({n: t for n, t in shared.items() if trained(n)}, row, state)
        frozen = under(_OWN, {n: t for n, t in shared.items() if not trained(n)})
        return Carry(carry.params, under(_INNER, carry.extra) | frozen)

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        frozen = group(_OWN, carry.extra)

        def partial(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
            return gradient(lambda some, batch: loss({**frozen, **some}, batch), params, batch)

        inner = update.step(Carry(carry.params, group(_INNER, carry.extra)), batch, partial)
        return Carry(inner.params, under(_INNER, inner.extra) | under(_OWN, frozen))

    def end(shared: Tensors, carry: Carry) -> Reply:
        mine = {n: t for n, t in shared.items() if trained(n)}
        return update.finish(mine, Carry(carry.params, group(_INNER, carry.extra)))

    return replace(update, start=start, step=step, finish=end)


class Probe:
    """Runs an update on made-up gradients, to know what it makes of them.

    The parameters are the task's names with zeros in float64, so that any update can be probed, also one of
    somebody else's.
    """

    def __init__(self, task: Task, update: LocalUpdate) -> None:
        self._update = update
        self._zero = {n: torch.zeros(1, dtype=torch.float64) for n in task.init(0)}
        self._carry = update.start(self._zero, {}, {})
        self._moved = [0.0]

    def step(self, carry: Carry, gradient: float) -> Carry:
        """Take one step along a gradient of `gradient` everywhere."""

        def given(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
            return {n: torch.full_like(p, gradient) for n, p in params.items()}, torch.zeros((), dtype=torch.float64)

        batch = Batch({}, {}, torch.ones(1), torch.zeros((), dtype=torch.int64))
        return self._update.step(carry, batch, given)

    def moved(self, steps: int) -> float:
        """Return how far `steps` unit gradients in a row carry a parameter downhill."""
        while len(self._moved) <= steps:
            self._carry = self.step(self._carry, 1.0)
            self._moved.append(-_one(self._carry))
        return self._moved[steps]

    def learning_rate(self, strategy: str, why: str) -> float:
        """Return η where every step is w - η (gradient + a decay of w); refuse momentum, Adam and the like.

        Raises:
            ConfigError: it is not; `why` says why that matters.
        """
        fresh = self._update.start(self._zero, {}, {})
        ones = self._update.start({n: t + 1 for n, t in self._zero.items()}, {}, {})
        rate, twice, decay = self.moved(1), self.moved(2), 1 - _one(self.step(ones, 0.0))
        double, after = -_one(self.step(fresh, 2.0)), -_one(self.step(self.step(fresh, 1.0), 0.0))
        expected = (2 * rate, rate * (1 - decay), rate + rate * (1 - decay))  # what plain steps would make
        if rate <= 0 or any(
            abs(got - wanted) > 1e-9 * rate for got, wanted in zip((double, after, twice), expected, strict=True)
        ):
            raise ConfigError(
                f'[update] strategy "{strategy}" needs plain gradient steps, w - learning_rate * gradient, '
                f"but this update moves {rate:.4g} for a gradient of 1, {double:.4g} for one of 2, and {twice:.4g} in "
                f"two steps: {why}. Take sgd without momentum."
            )
        return rate


def _one(carry: Carry) -> float:
    return float(next(iter(carry.params.values())))
