"""Sinusoids: the least problem of which there are many."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._common import examples_of, fingerprint_of
from fedjourney.seeds import seed_for, uniforms

AMPLITUDES, PHASES, REACH = (0.1, 5.0), (0.0, np.pi), 5.0


def sinusoids(
    source: Source,
    /,
    *,
    sinusoids: Annotated[int, Ge(1), Le(1_000_000)] = 100,
    episodes: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    points: Annotated[int, Ge(2), Le(100_000)] = 20,
    validation: Annotated[int, Ge(0), Le(1_000_000)] = 100,
    test: Annotated[int, Ge(0), Le(1_000_000)] = 500,
) -> Dataset:
    """Points of sinusoids that differ in amplitude and phase, for task `adaptation`; column "sinusoid".

    An example is an episode: `points` points (x, a sin(x - p)) of one sinusoid, x uniform between -5 and 5. Amplitudes
    a are uniform between 0.1 and 5, phases p between 0 and π. `natural` by "sinusoid" gives each client one of its
    own; each episode of validation and test is of a sinusoid that no client has.

    Args:
        source: supplies the seed.
        sinusoids: how many there are to train on.
        episodes: of each of them.
        points: in an episode, first those that are adapted to, then those that this is judged by.
        validation: how many others, one episode of each.
        test: as many again.

    Reference: Finn et al. 2017, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
    https://arxiv.org/abs/1703.03400, section 5.1.
    """
    train, checked, tested = (
        _episodes(count, each, points, seed_for(source.seed, split))
        for split, count, each in (("train", sinusoids, episodes), ("validation", validation, 1), ("test", test, 1))
    )
    columns = {"sinusoid": np.repeat(np.arange(sinusoids), episodes)}
    name = f"{sinusoids} sinusoids"
    return Dataset(name, train, checked, tested, columns, 0, fingerprint_of((train, checked, tested)))


def _episodes(count: int, each: int, points: int, seed: int) -> Examples:
    """Return `each` episodes of `count` sinusoids, one sinusoid after the other."""
    amplitude, phase = (
        low + (high - low) * np.repeat(uniforms(seed_for(seed, name), count), each)[:, None]
        for name, (low, high) in (("amplitudes", AMPLITUDES), ("phases", PHASES))
    )
    x = REACH * (2 * uniforms(seed_for(seed, "points"), count * each * points).reshape(count * each, points) - 1)
    y = np.round(amplitude * np.sin(x - phase), 6)  # so that a sine's last bit changes no fingerprint
    return examples_of({"points": x.astype(np.float32)[..., None]}, {"values": y.astype(np.float32)[..., None]})
