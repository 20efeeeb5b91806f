"""FedProto: prototypes travel, models stay.

Reference: Tan et al. 2022, FedProto: Federated Prototype Learning across Heterogeneous Clients,
https://arxiv.org/abs/2105.00243, Algorithm 1, equations 3 to 7, with the server's mean as in the authors' code.
Per sampled client and round up: an embedding's width for each class that it holds; down: for each class that anybody
has told of. No model ever travels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from fedjourney.batching import Batch, Gradient, Loss
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for
from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.strategies._local import group, under
from fedjourney.tasks import Embedding, Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, Client, LocalUpdate, Reply, Work

BLOCK = 512  # examples embedded at once
NEVER = -math.inf  # the logit of a class without a prototype: that it is one of these is held for impossible


class FedProto(Rounds):
    """Each client keeps a model of its own; what is shared is where each class lies in the models' embeddings.

    Client: go downhill on the mean of cross-entropy + λ |h(x) - c̄_y|² / width by `[update]`, h(x) what the last linear
    layer sees and c̄_y the shared prototype of the example's class, where there is one; then send, for each class it
    holds, the mean of h over its examples. Server: each class's prototype is the plain mean over the clients of the
    cohort that hold it; one that nobody of them holds stays. A client answers by the nearest prototype of those that it
    received last, and its own of classes that were unknown then; that is evaluated as `personal/…`. A held-out example
    of a class that neither it nor anybody has told of yet is held for impossible: `personal/loss` is infinite then,
    null in `rounds.jsonl`, as in first rounds of small cohorts. The model that is delivered stays the server's start
    model, which no client ever sees.

    Args:
        setting: not needed.
        strength: λ.
        start: whether all models begin alike (from the experiment's seed, which everybody has: nothing is sent for it),
            so that their embeddings mean the same; or each as its own, as where models are of different makes.
    """

    fold = None
    partial = True
    weighted = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        strength: Annotated[float, Ge(0)] = 1.0,
        start: Literal["common", "own"] = "common",
    ) -> None:
        super().__init__()
        self.strength, self.start = strength, start
        self._like: Tensors = {}

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on their own models, drawn to the prototypes."""
        assert update is not None
        if not isinstance(task, Embedding):
            raise ConfigError(
                '[strategy] "fedproto" needs classes and a model whose embedding can be seen, which this task does '
                "not have. Take [task] classification."
            )
        weight = task.init(0)[f"{task.last}.weight"]
        self._like = {f"prototype/{number}": row for number, row in enumerate(weight)}
        return {"train": _AtHome(task, update, self.strength, self.start == "own")}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Everyone gets the prototypes there are."""
        return Ask(dict(self.state), clients)

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is a prototype for each class, or for some."""
        return self._like

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Average each class over those who hold it."""
        for name in self._like:
            held = [row[name] for row in cohort.rows if name in row]
            if held:
                self.state[name] = torch.stack(held).mean(0)
        return params


@dataclass(frozen=True)
class _AtHome:
    """Trains the client's own model, and tells where its classes lie."""

    task: Embedding
    update: LocalUpdate
    strength: float
    own_start: bool

    def __call__(self, client: Client) -> Reply:
        """Answer with the prototypes of the classes that are there; keep model and received prototypes."""
        start = seed_for(client.seed, "fedproto", client.index if self.own_start else -1)
        model = group("model", client.state) or client.task.init(start)
        device = next(iter(client.shard.x.values())).device
        model = {name: tensor.to(device) for name, tensor in model.items()}
        known = group("prototype", client.shared)
        reply = replace(client, shared=model, row={}).train(self._drawn(model, known))
        model = {name: tensor + reply.tensors[f"update/{name}"] for name, tensor in model.items()}
        client.tally.forwards += len(client.shard)
        own = self._means(model, client.shard)
        kept = under("model", model) | under("prototype", own | known)
        return Reply(under("prototype", own), reply.metrics, kept | reply.state)

    def _drawn(self, model: Tensors, known: Tensors) -> LocalUpdate:
        """Return the update on its loss and, for classes with a prototype, the squared distance to it."""
        weight = model[f"{self.task.last}.weight"]
        means = torch.stack([known.get(str(place), torch.zeros_like(row)) for place, row in enumerate(weight)])
        pull = self.strength * torch.tensor([float(str(place) in known) for place in range(len(weight))]).to(weight)

        def drawn(params: Tensors, batch: Batch) -> torch.Tensor:
            target, mask = next(iter(batch.y.values())), batch.mask.to(weight.dtype)
            outputs, points = self.task.embedded(params, batch.x, batch.key)
            away = (points - means[target]).square().mean(-1)
            losses = self.task.losses(outputs, batch.y) + pull[target] * away
            return (losses * mask).sum() / mask.sum().clamp(min=1)

        def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
            def other(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
                return gradient(drawn, params, batch)

            return self.update.step(carry, batch, other)

        return replace(self.update, step=step)

    def _means(self, model: Tensors, shard: Examples) -> Tensors:
        """Return the mean embedding of each class that is there, by its number."""
        with torch.no_grad():
            cuts = [shard.cut(slice(start, start + BLOCK)) for start in range(0, len(shard), BLOCK)]
            points = torch.cat([self.task.embedded(model, part.x)[1] for part in cuts])
        target = next(iter(shard.y.values()))
        return {str(int(place)): points[target == place].mean(0) for place in target.unique()}

    def personal(self, shared: Tensors, state: Tensors) -> Tensors:
        """Return the client's own model with a last layer whose largest output is that of the nearest prototype.

        -|h - c|² = 2 ⟨c, h⟩ - |c|² - |h|², and the last term is the same for all classes.
        """
        model, kept = group("model", state), group("prototype", state)
        if not model:
            return shared
        weight, bias = (model[f"{self.task.last}.{part}"] for part in ("weight", "bias"))
        weight, bias = torch.zeros_like(weight), torch.full_like(bias, NEVER)
        for name, mean in kept.items():
            weight[int(name)], bias[int(name)] = 2 * mean, -mean.square().sum()
        return model | {f"{self.task.last}.weight": weight, f"{self.task.last}.bias": bias}
