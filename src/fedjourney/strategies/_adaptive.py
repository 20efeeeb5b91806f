"""The adaptive server optimisers' shared mathematics (Reddi et al. 2021, Algorithm 2)."""

from abc import abstractmethod

import torch

from fedjourney.strategies import Cohort, Rounds, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import LocalUpdate, Work


class Adaptive(Rounds):
    """x ← x + η m / (√v + τ), with m ← β1 m + (1 - β1) Δ and a `second` moment of its own."""

    def __init__(self, learning_rate: float, beta_1: float, tau: float, initial: float) -> None:
        super().__init__()
        self.learning_rate, self.beta_1, self.tau, self.initial = learning_rate, beta_1, tau, initial

    @abstractmethod
    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Return the next v from v and Δ²."""

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`."""
        assert update is not None
        return {"train": update}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update, each coordinate by its own measure."""
        assert cohort.tensors is not None
        stepped = {}
        for name, delta in update_of(cohort.tensors).items():
            m = self.beta_1 * self.state.get(f"m/{name}", torch.zeros_like(delta)) + (1 - self.beta_1) * delta
            v = self.second(self.state.get(f"v/{name}", torch.full_like(delta, self.initial)), delta * delta)
            self.state[f"m/{name}"], self.state[f"v/{name}"] = m, v
            stepped[name] = params[name] + (self.learning_rate * (m / (v.sqrt() + self.tau)))
        return {name: stepped[name] for name in params}


def adam(
    state: Tensors, gradient: Tensors, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8
) -> tuple[Tensors, Tensors]:
    """Return (direction, next state) of Adam with its bias correction (Kingma and Ba 2015, Algorithm 1)."""
    count = state.get("step", torch.zeros((), dtype=torch.int64)) + 1
    after, direction = {"step": count}, {}
    for name, g in gradient.items():
        m = beta_1 * state.get(f"m/{name}", torch.zeros_like(g)) + (1 - beta_1) * g
        v = beta_2 * state.get(f"v/{name}", torch.zeros_like(g)) + (1 - beta_2) * (g * g)
        after |= {f"m/{name}": m, f"v/{name}": v}
        direction[name] = (m / (1 - beta_1 ** int(count))) / ((v / (1 - beta_2 ** int(count))).sqrt() + epsilon)
    return direction, after
