"""Matrix-product-state classifier."""

from math import pi
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from fedjourney.errors import ConfigError
from fedjourney.tasks import Signature


def mps(
    signature: Signature,
    /,
    *,
    bond: Annotated[int, Ge(1), Le(1_024)] = 10,
    pool: Annotated[int, Ge(1), Le(1_024)] = 1,
    noise: Annotated[float, Gt(0)] = 0.1,
    sharpness: Annotated[float, Gt(0)] = 10.0,
) -> nn.Module:
    """Matrix-product-state classifier: a tensor network from quantum physics as a classical model of images.

    A pixel x is the vector [cos πx/2, sin πx/2]; f_l is the product of one matrix for each pixel, in snake order (rows
    there and back, so that neighbours on the chain are neighbours in the image), with the leg of the label l in the
    middle. The logits are f / ‖f‖ times a learned scale: products of hundreds of matrices would over- or underflow,
    so each partial product is divided by its norm, which cancels here.

    Args:
        signature: one input, [channels, height, width] or any other shape, flattened then.
        bond: χ, the side of the matrices; about 2 · pixels · χ² + classes · χ² parameters.
        pool: images are averaged over squares of this side first.
        noise: deviation of the matrices from the identity at the start.
        sharpness: the scale at the start.

    Reference: Stoudenmire and Schwab 2016, Supervised Learning with Tensor Networks,
    https://arxiv.org/abs/1605.05775 (trained there by sweeps, here by gradients).
    """
    shape = next(iter(signature.inputs.values()))
    if pool > 1:
        if len(shape) != 3 or min(shape[1:]) < pool:
            raise ConfigError(f"[model] pool: expected images of at least {pool}x{pool}, got examples {list(shape)}.")
        shape = (shape[0], shape[1] // pool, shape[2] // pool)
    return _MPS(shape, signature.classes, bond, pool, noise, sharpness)


class _MPS(nn.Module):
    def __init__(
        self, shape: tuple[int, ...], classes: int, bond: int, pool: int, noise: float, sharpness: float
    ) -> None:
        super().__init__()
        self.pool, self.image = pool, len(shape) == 3
        sites = int(torch.Size(shape).numel())
        self.left = sites // 2
        self.cores = nn.Parameter(torch.eye(bond) + noise * torch.randn(sites, 2, bond, bond))
        self.label = nn.Parameter(torch.randn(classes, bond, bond) / bond)
        self.ends = nn.Parameter(torch.full((2, bond), bond**-0.5))
        self.scale = nn.Parameter(torch.tensor(sharpness))

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels [B, …] in 0 … 1 to logits [B, classes]."""
        if self.pool > 1:
            x = nn.functional.avg_pool2d(x, self.pool)
        if self.image:
            x = torch.stack([row.flip(-1) if place % 2 else row for place, row in enumerate(x.unbind(-2))], -2)
        x = x.flatten(1)
        features = torch.stack([torch.cos(x * (pi / 2)), torch.sin(x * (pi / 2))], -1)
        left = self._product(features[:, : self.left], self.cores[: self.left], self.ends[0])
        right = self._product(features[:, self.left :].flip(1), self.cores[self.left :].mT.flip(0), self.ends[1])
        f = torch.einsum("bi,cij,bj->bc", left, self.label, right)
        return self.scale * _normalised(f)

    def _product(self, features: Tensor, cores: Tensor, end: Tensor) -> Tensor:
        """Return end · Π_j (Σ_s φ_s(x_j) A_j^s), normalised, [B, χ]."""
        vector = end.expand(len(features), -1)
        for site in range(features.shape[1]):
            both = vector @ cores[site].transpose(0, 1).flatten(1)  # [B, 2χ]: times A^0 and A^1
            both = both.unflatten(1, (2, -1)) * features[:, site, :, None]
            vector = _normalised(both.sum(1))
        return vector


def _normalised(vector: Tensor) -> Tensor:
    return vector / torch.sqrt(vector.square().sum(-1, keepdim=True) + 1e-30)
