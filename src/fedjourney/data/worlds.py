"""Episodes in worlds that differ: where each starts, and by what physics it goes on."""

import hashlib
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le

from fedjourney.data import Dataset, Examples, Source
from fedjourney.data._common import evenly
from fedjourney.environments import Environment, environment_named
from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for
from fedjourney.tensors import digest_update


def worlds(
    source: Source,
    /,
    *,
    environment: str = "CartPole-v1",
    worlds: Annotated[int, Ge(1), Le(100_000)] = 10,
    spread: Annotated[float, Ge(0), Le(1)] = 0.5,
    episodes: Annotated[int, Ge(2), Le(100_000)] = 200,
    validation: Annotated[int, Ge(0), Le(100_000)] = 20,
    test: Annotated[int, Ge(0), Le(100_000)] = 100,
) -> Dataset:
    """Episodes of a Gymnasium environment in worlds with a physics of their own, for task `control`; column "world".

    An example is where one episode starts: `x` has the first observation, `y` what is not seen, namely the state and,
    under the environment's name, the world's numbers (CartPole: gravity, cart, pole, length, force, bias; Acrobot:
    mass_1, mass_2, length_1, centre_1, centre_2, bias; LunarLander: gravity, wind_power, turbulence_power).

    CartPole and Acrobot are computed here. Any other id of Gymnasium's with numbered actions and observations of one
    axis is played by Gymnasium (extra `rl`): a state is then a seed, and worlds differ for LunarLander-v3 alone.

    Args:
        source: supplies the seed of worlds and starts.
        environment: Gymnasium's id: "CartPole-v1", "Acrobot-v1", "LunarLander-v3", …
        worlds: how many; their numbers lie evenly over the range (a Latin hypercube).
        spread: how unlike worlds are, 0 = all as in Gymnasium, 1 = each of the numbers within its whole range
            (`Environment.unlike`); starts lie up to 1 + 2 spread times as wide as in Gymnasium, where they are computed
            here.
        episodes: of each world, to train on and to hold out at its client.
        validation: of each world, at the server.
        test: of each world, at the server, those worlds included that no client trains in.
    """
    chosen = environment_named(environment)
    if spread and not chosen.unlike:
        raise ConfigError(
            f"[data] spread: expected 0, since it is not known what could differ between worlds of {environment}, "
            f"got {spread}. Set spread = 0."
        )
    numbers, wide = _drawn(chosen, worlds, spread, source.seed)
    train, checked, tested = (
        _starts(chosen, numbers, wide, count, seed_for(source.seed, split))
        for split, count in (("train", episodes), ("validation", validation), ("test", test))
    )
    found = hashlib.sha256()
    for part in (train, checked, tested):
        digest_update(found, part.x | part.y)
    columns = {"world": np.repeat(np.arange(worlds), episodes)}
    name = f"{worlds} worlds of {environment}"
    return Dataset(name, train, checked, tested, columns, chosen.actions, found.hexdigest())


def _drawn(environment: Environment, count: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each world's numbers [worlds, W], and how wide its starts lie [worlds]."""
    columns = []
    for name, standard in environment.standard.items():
        place, most = evenly(count, seed_for(seed, "worlds", name)) * spread, environment.unlike[name]
        columns.append(standard * most**place if standard else most * place)
    wide = environment.start * (1 + spread * (1 + evenly(count, seed_for(seed, "worlds", "start"))))
    return np.stack(columns, 1) if columns else np.zeros((count, 0)), wide


def _starts(environment: Environment, numbers: np.ndarray, wide: np.ndarray, count: int, seed: int) -> Examples:
    """Return `count` episodes of each world, world after world."""
    placed = np.repeat(numbers, count, axis=0)
    starts = environment.draw(np.repeat(wide, count), seed)
    hidden = {"state": starts, environment.name: placed}
    return Examples(
        {"observation": torch.from_numpy(environment.observe(environment.begin(starts, placed)))},
        {name: torch.from_numpy(array) for name, array in hidden.items()},
    )
