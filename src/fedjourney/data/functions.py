"""Functions that are drawn at random, read as pairs one after the other."""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from scipy.special import ndtri

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._common import evenly, examples_of, fingerprint_of
from fedjourney.errors import DataError
from fedjourney.seeds import seed_for, uniform


def functions(
    source: Source,
    /,
    *,
    kind: Literal["sinusoid", "linear"] = "sinusoid",
    dimensions: Annotated[int, Ge(1), Le(1_000)] | None = None,
    shots: Annotated[int, Ge(1), Le(10_000)] = 10,
    noise: Annotated[float, Gt(0), Le(100)] = 0.1,
    families: Annotated[int, Ge(1), Le(100_000)] = 10,
    spread: Annotated[float, Ge(0), Le(1)] = 0.5,
    sequences: Annotated[int, Ge(2), Le(10_000_000)] = 1000,
    validation: Annotated[int, Ge(0), Le(10_000_000)] = 100,
    test: Annotated[int, Ge(0), Le(10_000_000)] = 500,
) -> Dataset:
    """Functions drawn at random, in families that differ, each read as a sequence of noisy pairs; column "family".

    y = w·φ(x) + noise, each w_j ~ N(0, s_j²): "sinusoid" has φ = (sin x, cos x), so that amplitude and phase are
    random, and x uniform in ±5; "linear" has φ = x ~ N(0, I). The scales s are the family's. An example is a function
    of its own, seen at `shots` + 1 points: step t shows x_t, the pair (x, y) of the step before (0 at first), and
    whether the sequence begins. The target `value` is y_t, and `bayes` is what the best of all predictors, which knows
    the family, says of it from the pairs before: φ_t·(ΦᵀΦ + noise² S⁻²)⁻¹ Φᵀ y, ridge regression on the true features.

    Args:
        source: supplies the seed of functions, points and noise.
        kind: "sinusoid" or "linear".
        dimensions: of x, where it is linear; default 1.
        shots: pairs that the last prediction of a sequence can learn from.
        noise: its standard deviation.
        families: of functions: a client each, with partition `natural` by "family".
        spread: how unlike families are: each s is 4^u with u within ± this, evenly over families; 0 = all 1.
        sequences: of each family, to learn from and to hold out at its client.
        validation: of each family, at the server.
        test: of each family, at the server, those families included that no client has.
    """
    if kind == "sinusoid" and dimensions is not None:
        raise DataError('[data] dimensions is set, but kind "sinusoid" does not use it. Remove it, or take "linear".')
    wide = dimensions or 1
    features = wide if kind == "linear" else 2
    places = [evenly(families, seed_for(source.seed, "functions", number)) for number in range(features)]
    scales = 4.0 ** (spread * np.stack(places, 1))
    parts = []
    for split, count in (("train", sequences), ("validation", validation), ("test", test)):
        each = np.repeat(scales, count, axis=0)
        parts.append(_read(kind, each, wide, shots + 1, noise, seed_for(source.seed, split)))
    columns = {"family": np.repeat(np.arange(families), sequences)}
    name = f"{families} families of {kind} functions, {shots} shots"
    return Dataset(name, parts[0], parts[1], parts[2], columns, 0, fingerprint_of((parts[0], parts[1], parts[2])))


def _read(kind: str, scales: np.ndarray, wide: int, points: int, noise: float, seed: int) -> Examples:
    """Return a sequence for each of the functions with scales [n, F]."""
    shape = (len(scales), points)
    if kind == "linear":
        x = features = _normal(seed_for(seed, "x"), (*shape, wide))
    else:
        x = 10 * _uniform(seed_for(seed, "x"), (*shape, wide)) - 5
        features = np.concatenate([np.sin(x), np.cos(x)], -1)
    weights = scales * _normal(seed_for(seed, "weights"), scales.shape)
    value = (features @ weights[:, :, None]).squeeze(-1) + noise * _normal(seed_for(seed, "noise"), shape)
    before = np.concatenate([x, value[..., None]], -1)
    before = np.concatenate([np.zeros_like(before[:, :1]), before[:, :-1]], 1)
    begins = np.broadcast_to((np.arange(points) == 0)[:, None], (*shape, 1))
    seen = np.concatenate([x, before, begins], -1).astype(np.float32)
    bayes = best_predictions(features, value, noise / scales)
    return examples_of({"pairs": seen}, {"value": value.astype(np.float32), "bayes": bayes.astype(np.float32)})


def best_predictions(features: np.ndarray, value: np.ndarray, unsure: np.ndarray) -> np.ndarray:
    """Return E[y_t | x_t and the pairs before] [n, T] of features [n, T, F], values [n, T], noise over scales [n, F].

    >>> best_predictions(np.array([[[1.0], [1.0]]]), np.array([[2.0, 0.0]]), np.ones((1, 1))).tolist()  # 2 / (1 + 1)
    [[0.0, 1.0]]
    """
    seen = unsure[:, :, None] ** 2 * np.eye(unsure.shape[1])
    summed, kept = np.zeros((*unsure.shape, 1)), []
    for now, answer in zip(features.transpose(1, 0, 2)[..., None], value.T, strict=True):
        kept.append((now.mT @ np.linalg.solve(seen, summed))[:, 0, 0])
        seen += now @ now.mT
        summed += now * answer[:, None, None]
    return np.stack(kept, 1)


def _uniform(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers in (0, 1) as float64."""
    drawn = uniform(torch.tensor(seed), int(np.prod(shape))).double().numpy()
    return drawn.reshape(shape) + 2**-25


def _normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return ndtri(_uniform(seed, shape))
