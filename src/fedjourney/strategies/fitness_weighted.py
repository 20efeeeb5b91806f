"""Averaging by fitness: who scores better counts for more.

Reference: ours, after the weighted recombination of evolution strategies (Hansen and Ostermeier 2001, Completely
Derandomized Self-Adaptation in Evolution Strategies); softmax of the fitness in place of ranks, so that
replies can be folded as they come. Per sampled client and round P floats and one number up, P floats down.
"""

import math
from typing import Annotated

from annotated_types import Ge, Gt

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class FitnessWeighted(Rounds):
    """Hybrid: averaging where a client's weight grows with the fitness of its trained model.

    Weight n_k exp(β f_k): f_k is the fitness (minus the loss) of client k's own model on a minibatch of its own shard.
    β = `sharpness` 0 is FedAvg to the bit. A client reports its own fitness, and an easy shard weighs more than a
    hard one: under label skew this is a different objective, and it trusts what clients say.
    """

    evolution = True

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        sharpness: Annotated[float, Ge(0)] = 1.0,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.sharpness, self.server_learning_rate = sharpness, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`, then score what they learned."""
        assert update is not None

        def train_and_score(client: Client) -> Reply:
            reply = client.train(update)
            moved = update_of(reply.tensors)
            model = {name: (tensor + moved[name]).unsqueeze(0) for name, tensor in client.shared.items()}
            seed = seed_for(client.seed, "fitness", client.round, client.index)
            fitness = float(client.task.fitness(model, client.shard, seed)[0])
            return Reply(reply.tensors, {**reply.metrics, "fitness": fitness}, reply.state)

        return {"train": train_and_score}

    def weight(self, reply: Reply) -> float:
        """Return n exp(β f), kept above 1e-30 so that a cohort of hopeless models still has a mean."""
        grown = math.exp(min(self.sharpness * reply.metrics["fitness"], 60.0))
        return reply.metrics["num-examples"] * max(grown, 1e-30)

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the weighted mean update."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)
