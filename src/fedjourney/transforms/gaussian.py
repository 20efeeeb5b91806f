"""Noise on a client's update."""

from typing import Annotated

import torch
from annotated_types import Ge

from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import floats


class _Gaussian:
    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Add noise of this client and round."""
        generator = torch.Generator().manual_seed(seed)
        noisy = {}
        for name, tensor in floats(update).items():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            noisy[name] = tensor + (self.sigma * noise).to(tensor)
        return update | noisy, state

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """The noise stays."""
        return wire


def gaussian(*, sigma: Annotated[float, Ge(0)] = 0.01) -> Transform:
    """Add independent normal noise to every number of an update; changes no bytes.

    The draw is seeded by experiment, client and round, so that a run repeats itself; it therefore protects nobody who
    tells the seed, and no privacy is accounted for. After `norm_clip` it is the local Gaussian mechanism.

    Args:
        sigma: standard deviation of the noise, in the update's own units.

    Reference: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy, appendix A,
    https://www.cis.upenn.edu/~aaroth/Papers/privacybook.pdf.
    """
    return _Gaussian(sigma)
