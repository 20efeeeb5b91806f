"""FedKSeed: full-parameter zeroth-order learning with K fixed seeds.

Reference: Qin et al. 2024, Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost
under 18 Kilobytes, https://arxiv.org/abs/2312.06353, with its FedKSeed-Pro (seeds drawn by what they brought).

Per sampled client and round, K seeds, T local steps, P parameters: up T pairs of a 16-bit number and a float (6 T
bytes); down the accumulated scalars that have changed since the client's last round, as 16-bit number and float, or
all K floats where that is less; P floats once, K floats more each round with `pro`.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from fedjourney.seeds import seed_for, uniforms
from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.strategies._evolution import Distribution, combine, direction, flatten, score, unflatten
from fedjourney.strategies._replay import group, kept, numbered, prefixed
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate, Reply, Work
from fedjourney.wire import encoded_size


class FedKSeed(Rounds):
    """FedKSeed: each step goes along one of K fixed directions; the model is the sum of what each of them gathered.

    w = w_0 - η Σ_j A_j z_j. A client rebuilds w, then takes T steps: draw j, g = (L(w + ε z_j) - L(w - ε z_j)) / 2ε,
    w ← w - η g z_j; it sends the pairs (j, g), and the server adds their weighted mean to A. So w is the mean of the
    clients' local models. With `pro`, j is drawn with probability softmax(minmax(mean |g|)) of the rounds so far.

    Options: `seeds` is K (the paper: 4096; rebuilding costs as many vectors of noise); `clip` bounds |g| (0: none).
    """

    uses_update = False
    evolution = True
    fold = None  # pairs of unlike seeds do not average

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        seeds: Annotated[int, Ge(1), Le(32768)] = 1024,
        steps: Annotated[int, Ge(1), Le(100_000)] = 20,
        epsilon: Annotated[float, Gt(0)] = 5e-4,
        learning_rate: Annotated[float, Gt(0)] = 0.001,
        clip: Annotated[float, Ge(0)] = 0.0,
        pro: bool = False,
        noise: Distribution = "rademacher",
    ) -> None:
        super().__init__()
        self.setting, self.seeds, self.steps, self.epsilon = setting, seeds, steps, epsilon
        self.learning_rate, self.clip, self.pro, self.noise = learning_rate, clip, pro, noise

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients rebuild the model, then step along drawn seeds."""
        return {"train": self._walk}

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `index` [steps] int16 and `slope` [steps]."""
        one = next(iter(params.values()))
        return {"index": torch.empty(self.steps, dtype=torch.int16), "slope": one.new_empty(self.steps)}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Send each client the scalars that changed since it last took part."""
        if "known" not in self.state:
            one = next(iter(params.values()))
            self.state = prefixed("start/", params) | {
                "sums": one.new_zeros(self.seeds),
                "changed": torch.zeros(self.seeds, dtype=torch.int64),  # the round that last changed each
                "known": torch.zeros(self.setting.clients, dtype=torch.int64),  # has all rounds before this one
                "drawn": torch.zeros(2, self.seeds, dtype=torch.float64),  # sums of |g|, and of how many
            }
        shared = {"probability": self._probability()} if self.pro else {}
        return Ask(shared, clients, [self._row(client) for client in clients])

    def _row(self, client: int) -> Tensors:
        known, sums = int(self.state["known"][client]), self.state["sums"]
        index = torch.nonzero(self.state["changed"] >= max(known, 1)).flatten()
        changed = {"index": index.to(torch.int16), "sums": sums[index]} if len(index) else {}
        row = min(changed, {"sums": sums}, key=encoded_size)
        return row if known else row | prefixed("start/", group(self.state, "start/"))

    def _probability(self) -> torch.Tensor:
        """Return softmax(minmax(mean |g|)) [seeds]; seeds never drawn count as the mean of those that were."""
        total, count = self.state["drawn"]
        mean = torch.where(count > 0, total / count.clamp(min=1), total.sum() / count.sum().clamp(min=1))
        spread = mean.max() - mean.min()
        scaled = (mean - mean.min()) / spread if float(spread) > 0 else torch.zeros_like(mean)
        return torch.softmax(scaled, 0).to(torch.float32)

    def _direction(self, number: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "candidate seed", number), flat)

    def _rebuild(self, start: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        """Return w_0 - η Σ A_j z_j [P], in order of j: the same bits however A came together."""
        used = torch.nonzero(sums).flatten()
        return start + (
            -self.learning_rate * combine(sums[used], (self._direction(j, start) for j in used.tolist()), start)
        )

    def _draw(self, client: Client) -> list[int]:
        """Return the numbers of the seeds to step along."""
        draws = uniforms(seed_for(client.seed, "fedkseed", client.round, client.index), self.steps)
        if "probability" not in client.shared:
            return [int(u * self.seeds) for u in draws]
        ends = np.cumsum(client.shared["probability"].cpu().double().numpy())
        return np.minimum(np.searchsorted(ends, draws * ends[-1], side="right"), self.seeds - 1).tolist()

    def _walk(self, client: Client) -> Reply:
        own = kept(client.state)
        start = group(client.row, "start/") or group(own, "start/")
        sums = own["sums"] if "sums" in own else next(iter(start.values())).new_zeros(self.seeds)
        if "index" in client.row:
            sums = sums.index_copy(0, client.row["index"].to(torch.int64), client.row["sums"])
        elif "sums" in client.row:
            sums = client.row["sums"]
        flat = self._rebuild(flatten(start), sums)
        drawn, slopes = self._draw(client), []
        for number, j in enumerate(drawn):
            z = self._direction(j, flat)
            pair = [flat + (self.epsilon * z), flat - (self.epsilon * z)]
            fitness = score(client, pair.__getitem__, 2, start, number)
            slope = (fitness[1] - fitness[0]) / (2 * self.epsilon)
            slopes.append(slope.clamp(-self.clip, self.clip) if self.clip else slope)
            flat = flat + (-self.learning_rate * (slopes[-1] * z))
        tensors = {"index": torch.tensor(drawn, dtype=torch.int16), "slope": torch.stack(slopes)}
        state = numbered(prefixed("start/", start) | {"sums": sums})
        return Reply(tensors, {"slope": float(tensors["slope"].abs().mean())}, state)

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Add the weighted mean of what was gathered, and rebuild."""
        weights = cohort.metrics["num-examples"]
        sums, drawn = self.state["sums"].clone(), self.state["drawn"].clone()
        changed, known = self.state["changed"].clone(), self.state["known"].clone()
        for weight, row in zip(weights, cohort.rows, strict=True):
            index = row["index"].to(torch.int64)
            valid = (index >= 0) & (index < self.seeds)
            index, slope = index[valid], row["slope"][valid]
            for j, g in zip(index.tolist(), slope, strict=True):  # one by one: an order that every machine keeps
                sums[j] += (weight / sum(weights)) * g
                drawn[0, j] += g.abs()
                drawn[1, j] += 1
            changed[index] = round
        known[torch.tensor(cohort.clients, dtype=torch.int64)] = round
        self.state = self.state | {"sums": sums, "drawn": drawn, "changed": changed, "known": known}
        start = group(self.state, "start/")
        return unflatten(self._rebuild(flatten(start), sums), params)
