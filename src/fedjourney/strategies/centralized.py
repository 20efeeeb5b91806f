"""All examples in one place.

The ceiling of every comparison: what could be learned if nobody's data had to stay where they are. No federation, so
nothing travels and no bytes are charged; only a simulation can do it, for it alone has everybody's examples.
"""

from collections.abc import Sequence

import torch

from fedjourney.batching import gradient
from fedjourney.data import Examples
from fedjourney.seeds import permutation, seed_for
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class Centralized(Rounds):
    """No federation: `[update]` on everybody's training examples in one place, as many a round as a cohort holds.

    A round goes through E x K/N of all n examples, in batches of the task's size, E the epochs of `[update]`: the
    gradient work of K of N clients, exactly where shards are equal or all are asked, else on average over cohorts.
    It reads on where the last round ended, pass after pass in a new seeded order. Held-out parts are nobody's to train
    on here either. What `[update]` keeps from step to step (momentum) begins anew each round, as at a client.
    """

    pooled = True

    def __init__(self, setting: Setting, /) -> None:
        super().__init__()
        self.setting = setting

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """One client, whose shard is everything, stands for the place where it all is."""
        assert update is not None
        local = update

        def work(client: Client) -> Reply:
            pool, carry = client.shard, local.start(client.shared, client.row, client.state)
            count = max(1, round(len(pool) * self.setting.cohort / self.setting.clients))
            for number in range(local.passes):
                place = (client.round - 1) * local.passes + number
                part = self._part(pool, place * count, count)
                seed = seed_for(client.seed, "batches", client.round, client.index, number)
                for batch in client.task.batches(carry.params, part, seed):
                    carry = local.step(carry, batch, gradient)
            reply = local.finish(client.shared, carry)
            return reply._replace(metrics={"num-examples": float(count), **reply.metrics})

        return {"train": work}

    def _part(self, pool: Examples, start: int, count: int) -> Examples:
        """Return `count` examples from place `start` of an endless line of shuffled passes over all of them."""
        size, rows = len(pool), []
        for number in range(start // size, (start + count - 1) // size + 1):
            order = permutation(seed_for(self.setting.seed, "pool", number), size)
            rows.append(torch.from_numpy(order[max(start - number * size, 0) : start + count - number * size]))
        return pool.take(torch.cat(rows))

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Ask the one place, whoever was drawn."""
        return Ask(params, [0])

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Take over what was trained."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), 1.0)
