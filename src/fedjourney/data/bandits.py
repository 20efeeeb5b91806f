"""Trials of Bernoulli bandits, families of them with a prior of their own."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from scipy.special import betaincinv

from fedjourney.bandits import bayes_optimum, count_of_states, most_states
from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._common import evenly, examples_of, fingerprint_of
from fedjourney.errors import DataError
from fedjourney.seeds import seed_for, uniform


def bandits(
    source: Source,
    /,
    *,
    arms: Annotated[int, Ge(2), Le(100)] = 5,
    pulls: Annotated[int, Ge(1), Le(10_000)] = 10,
    families: Annotated[int, Ge(1), Le(100_000)] = 10,
    spread: Annotated[float, Ge(0), Le(1)] = 0.5,
    trials: Annotated[int, Ge(2), Le(10_000_000)] = 1000,
    validation: Annotated[int, Ge(0), Le(10_000_000)] = 100,
    test: Annotated[int, Ge(0), Le(10_000_000)] = 2000,
) -> Dataset:
    """Trials of Bernoulli bandits, in families that differ in how good their arms are; column "family".

    An example is a trial: `x` has the mark of a beginning, which is all that is seen before the first pull; `y` has
    what is not seen: `rewards`, the 0 or 1 that each arm would pay at each pull, `prior`, the a and b of the Beta
    distribution that the chances of the family's arms are drawn from, and `optimum`, the most that can be expected of
    a trial by who knows the prior, computed exactly.

    Args:
        source: supplies the seed of priors, chances and rewards.
        arms: to choose from at every pull.
        pulls: in a trial.
        families: of bandits: a client each, with partition `natural` by "family".
        spread: how unlike families are: a and b are 4^u with u within ± this, evenly over families; 0 = all uniform.
        trials: of each family, to learn from and to hold out at its client.
        validation: of each family, at the server.
        test: of each family, at the server, those families included that no client has.
    """
    states, most = count_of_states(arms, pulls), most_states(arms, pulls)
    if states > most:
        raise DataError(
            f"[data] pulls: expected few enough for the exact optimum of {arms} arms, got {pulls}: there are "
            f"{states:,} counts or more to tell apart (at most {most:,}). Lower pulls or arms."
        )
    places = [evenly(families, seed_for(source.seed, "bandits", name)) for name in ("a", "b")]
    priors = 4.0 ** (spread * np.stack(places, 1))
    each, where = np.unique(priors, axis=0, return_inverse=True)
    best = bayes_optimum(arms, pulls, each)[where.reshape(-1)]
    parts = [
        _trials(priors, best, (arms, pulls, count), seed_for(source.seed, split))
        for split, count in (("train", trials), ("validation", validation), ("test", test))
    ]
    columns = {"family": np.repeat(np.arange(families), trials)}
    name = f"{families} families of bandits, {arms} arms, {pulls} pulls"
    return Dataset(name, parts[0], parts[1], parts[2], columns, arms, fingerprint_of(tuple(parts)))


def _trials(priors: np.ndarray, best: np.ndarray, shape: tuple[int, int, int], seed: int) -> Examples:
    """Return `count` trials of each family, family after family."""
    arms, pulls, count = shape
    total, prior = len(priors) * count, np.repeat(priors, count, axis=0)
    place = (_numbers(seed_for(seed, "chances"), total * arms).reshape(total, arms) + 0.5) / 2**24
    chance = betaincinv(prior[:, :1], prior[:, 1:], place)
    rewards = np.empty((total, pulls, arms), dtype=np.uint8)
    for pull in range(pulls):  # a pull at a time: all draws at once would take eight times the memory
        draws = _numbers(seed_for(seed, "rewards", pull), total * arms).reshape(total, arms)
        rewards[:, pull] = draws < chance * 2**24
    history = np.zeros((total, arms + 2), dtype=np.float32)
    history[:, -1] = 1
    return examples_of({"history": history}, {"rewards": rewards, "prior": prior, "optimum": np.repeat(best, count)})


def _numbers(seed: int, count: int) -> np.ndarray:
    """Return whole numbers in [0, 2^24) as float64."""
    return uniform(torch.tensor(seed), count).double().numpy() * 2**24
