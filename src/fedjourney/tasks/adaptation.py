"""Adaptation: what is learned is where to begin from."""

from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch.func import grad, vmap
from torch.nn import functional as F

from fedjourney.batching import Batch, note
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._curves import panel
from fedjourney.tasks._few_shot import FewShot, Points, spread
from fedjourney.tasks._prediction import answered_right
from fedjourney.tensors import Tensors, in_lanes

Order: TypeAlias = Literal["second", "first", "hessian_free"]

SHOWN = 3  # episodes in the picture
RATE = "rate/"  # before the names of learned rates


class _Adaptation(FewShot):
    """The query's loss after some gradient steps on the support, as a function of where they begin."""

    rate: float = 0.01
    steps: int = 1
    evaluation_steps: int = 10
    order: Order = "second"
    learned_rates: bool = False
    delta: float = 1e-3

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters, and behind them as many rates where those are learned."""
        weights = super().init(seed)
        rates = {RATE + n: torch.full_like(w, self.rate) for n, w in weights.items()} if self.learned_rates else {}
        return weights | rates

    def point_loss(self, weights: Tensors, points: Points) -> torch.Tensor:
        """Return the mean loss [] over points: cross-entropy, or the squared error averaged over a target's numbers."""
        told = self.told(weights, points.inputs)
        if self.ways:
            return F.cross_entropy(told, points.targets)
        return (told.view(points.targets.shape) - points.targets).square().mean()

    def adapted(self, params: Tensors, support: Points, steps: int, detached: bool = False) -> Tensors:
        """Return the weights after some steps w ← w - rate ∇loss(w; support).

        With `detached` the gradients count as constants.
        """
        weights = _without_rates(params)
        for _ in range(steps):
            at = {name: w.detach() for name, w in weights.items()} if detached else weights
            slopes = grad(self.point_loss)(at, support)
            weights = {name: w + (-params.get(RATE + name, self.rate) * slopes[name]) for name, w in weights.items()}
        return weights

    def example_losses(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the loss of each episode's query after the adaptation [B]."""
        if not in_lanes(params):
            note(batch, {"first": 1, "second": 2}.get(self.order, 3) * self.steps)  # besides the outer gradient
        losses: torch.Tensor = vmap(lambda x, y: self._after(params, x, y))(*_only(batch.x, batch.y))
        return losses

    def _after(self, params: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return one episode's loss []."""
        support, query = self.parts(x, y)
        if not self.steps:
            return self.point_loss(params, Points(*(torch.cat(both) for both in zip(support, query, strict=True))))
        if self.order == "hessian_free":
            return self._hessian_free(params, support, query)
        return self.point_loss(self.adapted(params, support, self.steps, self.order == "first"), query)

    def _hessian_free(self, params: Tensors, support: Points, query: Points) -> torch.Tensor:
        """Return the loss [], whose gradient is g - rate (∇S(w + δ g) - ∇S(w - δ g)) / 2δ, with g = ∇Q(adapted w)."""
        fixed = {name: tensor.detach() for name, tensor in params.items()}
        weights = self.adapted(fixed, support, 1)
        g = grad(self.point_loss)(weights, query)
        ahead, behind = (
            grad(self.point_loss)({name: w + (way * self.delta * g[name]) for name, w in fixed.items()}, support)
            for way in (1, -1)
        )
        slopes = {n: g[n] + (-self.rate / (2 * self.delta) * (ahead[n] - behind[n])) for n in g}
        linear = torch.stack(
            [((params[n] - fixed[n]) * slopes[n].detach()).sum() for n in g]
        ).sum()  # 0, but not ∇ of it
        return self.point_loss(weights, query).detach() + linear

    def sums(self, params: Tensors, part: Examples) -> Tensors:
        """Return sums over episodes: the query's score without and after adaptation, its square, and its loss."""

        def told(x: torch.Tensor, y: torch.Tensor) -> Tensors:
            support, query = self.parts(x, y)
            weights = self.adapted(params, support, self.evaluation_steps)
            return {"unadapted": self._score(_without_rates(params), query), "score": self._score(weights, query),
                    "loss": self.point_loss(weights, query)}  # fmt: skip

        each = {name: value.double() for name, value in vmap(told)(*_only(part.x, part.y)).items()}
        each |= {"score_square": each["score"].square(), "examples": torch.ones_like(each["score"])}
        return {name: values.sum() for name, values in each.items()}

    def _score(self, weights: Tensors, query: Points) -> torch.Tensor:
        """Return one episode's accuracy [], or its mean squared error."""
        if not self.ways:
            return self.point_loss(weights, query)
        return answered_right(self.told(weights, query.inputs), query.targets).to(self.dtype).mean()

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return the `accuracy` (or `mse`) after adaptation, that without, the deviation between episodes, `loss`."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        name = "accuracy" if self.ways else "mse"
        mean, deviation = spread(sums, "score", count)
        found = {name: mean, f"unadapted_{name}": float(sums["unadapted"]) / count, f"{name}_deviation": deviation}
        return found | ({"loss": float(sums["loss"]) / count} if self.ways else {})

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return what the model says before and after adaptation, where one number is to be told from one number."""
        part = examples.cut(slice(0, SHOWN))
        x, y = _only(part.x, part.y)
        if self.ways or not len(part) or x.shape[2:].numel() != 1 or y.shape[2:].numel() != 1:
            return {}
        grid = torch.linspace(float(x.min()), float(x.max()), 2000, dtype=self.dtype)
        panels = []
        for points, values in zip(x, y, strict=True):
            support, query = self.parts(points, values)
            weights = self.adapted(params, support, self.evaluation_steps)
            with torch.no_grad():
                told = [
                    self.told(some, grid.view(-1, *points.shape[1:])).flatten().double().numpy()
                    for some in (_without_rates(params), weights)
                ]
            given = [
                (some.inputs.flatten().double().numpy(), some.targets.flatten().double().numpy())
                for some in (support, query)
            ]
            panels.append(panel(given[0], given[1], grid.double().numpy(), told[0], told[1]))
        caption = (
            f"New functions: the {self.shots} points adapted to (black), the others (blue); "
            f"the model before (grey) and after {self.evaluation_steps} steps (orange)"
        )
        return {caption: np.concatenate(panels, 1)}

    def scored(self, shard: Examples) -> int:
        """Return what one candidate's fitness costs, in forwards of an episode."""
        return super().scored(shard) * (1 + 3 * self.steps)


def _without_rates(params: Tensors) -> Tensors:
    return {name: tensor for name, tensor in params.items() if not name.startswith(RATE)}


def _only(x: Tensors, y: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(x.values())), next(iter(y.values()))


def adaptation(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    shots: Annotated[int, Ge(1), Le(100_000)] = 5,
    rate: Annotated[float, Gt(0)] = 0.01,
    steps: Annotated[int, Ge(0), Le(1_000)] = 1,
    evaluation_steps: Annotated[int, Ge(0), Le(100_000)] = 10,
    order: Order = "second",
    learned_rates: bool = False,
    delta: Annotated[float, Gt(0)] = 1e-3,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 1,
) -> Task:
    """Learning to adapt: what is reached after some gradient steps on k shots (MAML, Meta-SGD, Per-FedAvg).

    The loss of an episode is that of its query after `steps` steps of gradient descent on its support, as a function of
    where they began; `[update]` and `[strategy]` go downhill on it as on any other. With `steps = 0` nothing is adapted
    in training: the loss of all points. Evaluation adapts to each episode for itself, and tells how it does before.

    Args:
        make_model: builds the model of single points.
        signature: of episodes, as data `sinusoids` and `unseen_classes` have.
        dtype: of parameters.
        shots: k, points that are adapted to, of each class or in all.
        rate: α, of a step of adaptation.
        steps: of adaptation in training.
        evaluation_steps: of adaptation in evaluation.
        order: "second" is MAML, the gradient through all steps; "first" takes the gradients within for constants;
            "hessian_free" has for the product of Hessian and gradient a difference of two gradients (one step).
            "first" and "hessian_free" are no gradients of any loss, so that evolution sees no difference.
        learned_rates: a rate for every parameter, learned with it (Meta-SGD); they begin as `rate`, and travel too.
        delta: δ of "hessian_free". A step δ g over a kink of ReLU spoils it: at the start of `sinusoid-maml` the median
            error is 1e-5 of the Hessian's part with 0.001, 0.28 with 0.01; with large gradients less is better.
        batch_size: episodes per local step.

    References: Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
    https://arxiv.org/abs/1703.03400, equation 1 and section 5.2 (first order); Li et al. 2017, Meta-SGD,
    https://arxiv.org/abs/1707.09835, equation 3; Fallah et al. 2020, Personalized Federated Learning: A Meta-Learning
    Approach (Per-FedAvg), https://arxiv.org/abs/2002.07948, section 5 (FO and HF); Chen et al. 2018, Federated
    Meta-Learning with Fast Convergence and Efficient Communication, https://arxiv.org/abs/1802.07876.
    """
    if order == "hessian_free" and (steps != 1 or learned_rates):
        raise ConfigError(
            '[task] order: expected "first" or "second" where steps is not 1 or learned_rates is true, got '
            '"hessian_free", which is the gradient through one step at a given rate.'
        )
    if learned_rates and not steps:
        raise ConfigError("[task] learned_rates: expected steps of 1 or more, got 0: no rate would be learned.")
    task = _Adaptation(make_model, signature, batch_size, dtype, shots)
    task.rate, task.steps, task.evaluation_steps = rate, steps, evaluation_steps
    task.order, task.learned_rates, task.delta = order, learned_rates, delta
    return task
