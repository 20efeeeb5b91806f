"""What robust aggregations share: replies as one float64 matrix, and back; all clients count the same."""

from collections.abc import Sequence

import torch

from fedjourney.strategies import Rounds, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work

HELD = 2**22  # numbers held at once while distances are summed


def matrix(rows: Sequence[Tensors]) -> torch.Tensor:
    """Return the updates of K replies as a float64 matrix [K, P]; their names and order are the first one's.

    Distances in float32 would pick another client than exact arithmetic does once parameters are large.
    """
    names = list(update_of(rows[0]))
    return torch.stack([torch.cat([row[f"update/{name}"].double().flatten() for name in names]) for row in rows])


def stepped(params: Tensors, vector: torch.Tensor) -> Tensors:
    """Return params + vector, the float64 vector [P] cut into the parameters' shapes and dtypes."""
    parts = vector.split([tensor.numel() for tensor in params.values()])
    update = {n: part.view(t.shape).to(t.dtype) for part, (n, t) in zip(parts, params.items(), strict=True)}
    return add_scaled(params, update, 1.0)


def squared_distances(x: torch.Tensor) -> torch.Tensor:
    """Return |x_i - x_j|² [K, K] of the rows of x [K, P], by differences (never |x|² + |y|² - 2xy: it cancels)."""
    total = x.new_zeros(len(x), len(x))
    for part in x.split(max(1, HELD // len(x) ** 2), dim=1):
        total += ((part[:, None] - part[None]) ** 2).sum(2)
    return total


def krum_order(distances: torch.Tensor, byzantine: int) -> list[int]:
    """Return rows by Krum's score, the smallest first; [n, n] squared distances.

    A score is the sum of a row's distances to its n - f - 2 nearest others (at least one). Two rows that are each
    other's only nearest always tie; the smaller sum over all rows decides then, so that their order does not.
    """
    count = len(distances)
    nearest = min(max(1, count - byzantine - 2), count - 1)
    others = (distances + torch.diag(distances.new_full((count,), torch.inf))).sort(dim=1).values
    scores, totals = others[:, :nearest].sum(1).tolist(), others[:, : count - 1].sum(1).tolist()
    return sorted(range(count), key=lambda row: (scores[row], totals[row], row))


class Robust(Rounds):
    """A strategy that sees every reply: clients run `[update]`, the server replaces the mean."""

    weighted = False

    fold = None

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`."""
        assert update is not None
        return {"train": update}
