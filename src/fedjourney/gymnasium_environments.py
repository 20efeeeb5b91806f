"""Gymnasium's environments by their ids, an object for each episode.

Unlike CartPole and Acrobot, which are computed here row by row, these keep what they are inside: the state of an
episode in `Environment`'s sense is the object that plays it, and where an episode begins is a seed.

Reference: Towers et al. 2024, Gymnasium: A Standard Interface for Reinforcement Learning Environments,
https://arxiv.org/abs/2407.17032.
"""

import warnings
from functools import cache
from typing import Any

import numpy as np

from fedjourney.environments import Environment, Stepped
from fedjourney.errors import ConfigError
from fedjourney.seeds import words

EXTRA = 'Install the extra: pip install "fedjourney[rl]".'
VARIED: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "LunarLander-v3": (
        {"gravity": -10.0, "wind_power": 0.0, "turbulence_power": 0.0},
        {"gravity": 1.19, "wind_power": 15.0, "turbulence_power": 1.5},
    ),
}
"""For each id what makes a world, as in `Environment.standard` and `unlike`; numbers are arguments of its class."""
FURTHEST = 1000
"""Returns beyond ± this are counted with it in the interquartile mean."""


class _Episode:
    """One episode that is under way: what it shows, and whether it is over."""

    def __init__(self, inner: Any, seed: int) -> None:
        self.inner, self.over = inner, False
        self.seen: np.ndarray = inner.reset(seed=seed)[0]


class Gymnasium(Environment):
    """An environment of Gymnasium with numbered actions and observations of one axis."""

    def __init__(self, name: str) -> None:
        import gymnasium
        from gymnasium.spaces import Box, Discrete

        self.name, self.start = name, 0.0
        self.standard, self.unlike = VARIED.get(name, ({}, {}))
        try:
            with warnings.catch_warnings():
                # of ids that are out of date; Box2D's import dies of a signal where warnings are errors
                warnings.simplefilter("ignore")
                self._spec = gymnasium.spec(name)
                made = self._made(np.array(list(self.standard.values())))
        except gymnasium.error.DependencyNotInstalled as error:
            raise ConfigError(
                f'[data] environment: "{name}" needs a package that is missing ({error}). {EXTRA}'
            ) from None
        except (gymnasium.error.Error, ImportError) as error:
            raise ConfigError(
                "[data] environment: expected CartPole-v1, Acrobot-v1 or the id of another environment of Gymnasium, "
                f'got "{name}" ({error}).'
            ) from None
        actions, seen = made.action_space, made.observation_space
        if not isinstance(actions, Discrete) or not isinstance(seen, Box) or len(seen.shape) != 1:
            raise ConfigError(
                f'[data] environment: expected numbered actions and observations of one axis, got "{name}" with '
                f"{actions} and {seen}. Take another, such as LunarLander-v3."
            )
        if self._spec.max_episode_steps is None:
            raise ConfigError(f'[data] environment: expected a time limit, got "{name}", which has none. Take another.')
        self.actions, self.horizon = int(actions.n), int(self._spec.max_episode_steps)
        self.threshold = np.inf if self._spec.reward_threshold is None else float(self._spec.reward_threshold)
        self._first = int(actions.start)

    @property
    def span(self) -> tuple[int, int]:
        """Returns are not bounded in general."""
        return -FURTHEST, FURTHEST

    def _made(self, world: np.ndarray) -> Any:
        """Return a new object without wrappers, in a world [W]."""
        numbers = dict(zip(self.standard, world.tolist(), strict=True))
        if "wind_power" in numbers:  # a wind of either sign is a wind: its direction changes anyway
            numbers |= {name: abs(numbers[name]) for name in ("wind_power", "turbulence_power")}
            numbers["enable_wind"] = numbers["wind_power"] > 0
        return self._spec.make(**numbers, disable_env_checker=True).unwrapped

    def draw(self, wide: np.ndarray, seed: int) -> np.ndarray:
        """Return seeds of episodes [n, 1], whole numbers below 2^31; how wide starts lie is the environment's own."""
        return (words(seed, len(wide)) >> np.uint64(33)).astype(np.float64)[:, None]

    def begin(self, starts: np.ndarray, worlds: np.ndarray) -> np.ndarray:
        """Return an object for each episode [n, 1]."""
        states = np.empty((len(starts), 1), dtype=object)
        for row, (seed, world) in enumerate(zip(starts, worlds, strict=True)):
            states[row, 0] = _Episode(self._made(world), int(seed[0]))
        return states

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Return what each episode shows [n, O]."""
        return np.stack([episode.seen for episode in states[:, 0]]).astype(np.float32)

    def step(self, states: np.ndarray, actions: np.ndarray, worlds: np.ndarray) -> Stepped:
        """Take an action in every episode that is not over."""
        rewards, over = np.zeros(len(states)), np.zeros(len(states), dtype=bool)
        for row, episode in enumerate(states[:, 0]):
            if not episode.over:
                action = self._first + int(actions[row])
                episode.seen, rewards[row], episode.over, *_ = episode.inner.step(action)
            over[row] = episode.over
        return states.copy(), rewards, over


@cache
def gymnasium_environment(name: str) -> Gymnasium:
    """Return it.

    Raises:
        ConfigError: Gymnasium or what it needs is not there, it has no such id, or not of the kind that is played here.
    """
    try:
        return Gymnasium(name)
    except ImportError:
        raise ConfigError(
            f'[data] environment: "{name}" needs the package gymnasium, which is not installed. {EXTRA} '
            "CartPole-v1 and Acrobot-v1 need nothing."
        ) from None
