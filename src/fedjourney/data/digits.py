"""Handwritten digits that scikit-learn ships."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from fedjourney.data import Dataset, Source
from fedjourney.data._common import labelled


def digits(
    source: Source,
    /,
    *,
    validation: Annotated[float, Ge(0), Lt(1)] = 0.1,
    test: Annotated[float, Ge(0), Lt(1)] = 0.2,
) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels that scikit-learn ships: real, and no download.

    Args:
        source: supplies the seed of the splits.
        validation: share of what is not test.
        test: share of all examples.

    Reference: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16).astype(np.float32)[:, None]
    return labelled("digits", {"image": images}, found.target.astype(np.int64), {}, source.seed, validation, test)
