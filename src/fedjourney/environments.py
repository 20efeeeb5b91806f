"""Environments to control, many episodes side by side, each in a world of its own.

The dynamics are Gymnasium's, row by row in NumPy and float64 whatever `[numerics]` says; the tests hold every step
against Gymnasium itself. S numbers make a state, W a world, O an observation; n episodes go side by side.

References: Barto, Sutton and Anderson 1983, Neuronlike adaptive elements that can solve difficult learning control
problems (CartPole); Sutton 1996, Generalization in reinforcement learning (Acrobot); Towers et al. 2024, Gymnasium,
https://arxiv.org/abs/2407.17032.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType as Fixed

import numpy as np
import torch

from fedjourney.seeds import uniform

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray]
"""States [n, S], rewards [n], whether the episode has terminated [n]."""


class Environment(ABC):
    """A controlled system.

    Attributes:
        name: Gymnasium's id.
        actions: how many there are; they are numbered.
        horizon: steps after which the time limit ends an episode.
        threshold: the mean return that counts as solved, by Gymnasium's registry.
        standard: what makes a world, by name, as Gymnasium has it.
        unlike: how far worlds may differ: name -> the largest factor, or for what is 0 by default the largest amount.
        start: every number of a state starts uniformly within ± this.
    """

    name: str
    actions: int
    horizon: int
    threshold: float
    standard: Mapping[str, float]
    unlike: Mapping[str, float]
    start: float

    @property
    def span(self) -> tuple[int, int]:
        """Return the lowest and the highest return: a reward is at most 1, or at least -1, in size."""
        return (0, self.horizon) if self.threshold > 0 else (-self.horizon, 0)

    def draw(self, wide: np.ndarray, seed: int) -> np.ndarray:
        """Return where episodes begin [n, 4]: each number uniform within ± how wide the starts of its world lie [n]."""
        within = 2 * uniform(torch.tensor(seed), 4 * len(wide)).double().numpy().reshape(-1, 4) - 1
        return within * wide[:, None]

    def begin(self, starts: np.ndarray, worlds: np.ndarray) -> np.ndarray:
        """Return the states [n, S] of episodes that begin at `starts` [n, …], in worlds [n, W]."""
        return starts

    @abstractmethod
    def observe(self, states: np.ndarray) -> np.ndarray:
        """Return what is seen of states [n, S], [n, O] float32."""

    @abstractmethod
    def step(self, states: np.ndarray, actions: np.ndarray, worlds: np.ndarray) -> Stepped:
        """Take one action [n] in each of the states [n, S], in worlds [n, W]."""


class CartPole(Environment):
    """A pole on a cart that is pushed left or right; 1 for every step until it falls or the cart leaves the track.

    `bias` is a steady force on the cart, in newtons, added to the push: a wind.
    """

    name, actions, horizon, threshold, start = "CartPole-v1", 2, 500, 475.0, 0.05
    standard = Fixed({"gravity": 9.8, "cart": 1.0, "pole": 0.1, "length": 0.5, "force": 10.0, "bias": 0.0})
    unlike = Fixed({"gravity": 2.0, "cart": 2.0, "pole": 3.0, "length": 3.0, "force": 1.5, "bias": 3.0})
    _seconds, _angle, _track = 0.02, 12 * 2 * np.pi / 360, 2.4

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Position, velocity, angle and angular velocity."""
        return states.astype(np.float32)

    def step(self, states: np.ndarray, actions: np.ndarray, worlds: np.ndarray) -> Stepped:
        """One step of Euler's method."""
        gravity, cart, pole, length, force, bias = worlds.T
        _, speed, angle, turning = states.T
        mass, push = cart + pole, np.where(actions == 1, force, -force) + bias
        sine, cosine = np.sin(angle), np.cos(angle)
        pressed = (push + pole * length * turning**2 * sine) / mass
        bent = (gravity * sine - cosine * pressed) / (length * (4 / 3 - pole * cosine**2 / mass))
        pushed = pressed - pole * length * bent * cosine / mass
        after = states + self._seconds * np.stack([speed, pushed, turning, bent], 1)
        fell = (np.abs(after[:, 0]) > self._track) | (np.abs(after[:, 2]) > self._angle)
        return after, np.ones(len(after)), fell


class Acrobot(Environment):
    """Two links that hang from a point, with a motor between them; -1 for every step until the end swings up.

    `bias` is a steady torque, in newton metres, added to the motor's -1, 0 or 1.
    """

    name, actions, horizon, threshold, start = "Acrobot-v1", 3, 500, -100.0, 0.1
    standard = Fixed({"mass_1": 1.0, "mass_2": 1.0, "length_1": 1.0, "centre_1": 0.5, "centre_2": 0.5, "bias": 0.0})
    unlike = Fixed({"mass_1": 1.4, "mass_2": 1.4, "length_1": 1.3, "centre_1": 1.3, "centre_2": 1.3, "bias": 0.3})
    _seconds, _gravity, _inertia = 0.2, 9.8, 1.0
    _fastest = np.array([4 * np.pi, 9 * np.pi])

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Cosine and sine of both angles, and both angular velocities."""
        first, second = states[:, 0], states[:, 1]
        seen = [np.cos(first), np.sin(first), np.cos(second), np.sin(second), states[:, 2], states[:, 3]]
        return np.stack(seen, 1).astype(np.float32)

    def step(self, states: np.ndarray, actions: np.ndarray, worlds: np.ndarray) -> Stepped:
        """One step of Runge and Kutta's fourth order."""
        torque, h = actions - 1.0 + worlds[:, 5], self._seconds
        k1 = self._slope(states, torque, worlds)
        k2 = self._slope(states + h / 2 * k1, torque, worlds)
        k3 = self._slope(states + h / 2 * k2, torque, worlds)
        k4 = self._slope(states + h * k3, torque, worlds)
        after = states + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles = after[:, :2]
        turns = np.ceil((np.abs(angles) - np.pi) / (2 * np.pi)).clip(min=0)
        after[:, :2] = angles - 2 * np.pi * turns * np.sign(angles)
        after[:, 2:] = np.clip(after[:, 2:], -self._fastest, self._fastest)
        up = -np.cos(after[:, 0]) - np.cos(after[:, 1] + after[:, 0]) > 1
        return after, np.where(up, 0.0, -1.0), up

    def _slope(self, states: np.ndarray, torque: np.ndarray, worlds: np.ndarray) -> np.ndarray:
        """Return the time derivative of states [n, S], by Sutton and Barto's book."""
        m1, m2, l1, c1, c2, _ = worlds.T
        first, second, turn1, turn2 = states.T
        sine, cosine, inertia, g = np.sin(second), np.cos(second), self._inertia, self._gravity
        d1 = m1 * c1**2 + m2 * (l1**2 + c2**2 + 2 * l1 * c2 * cosine) + 2 * inertia
        d2 = m2 * (c2**2 + l1 * c2 * cosine) + inertia
        phi2 = m2 * c2 * g * np.cos(first + second - np.pi / 2)
        phi1 = (
            -m2 * l1 * c2 * sine * (turn2**2 + 2 * turn2 * turn1)
            + (m1 * c1 + m2 * l1) * g * np.cos(first - np.pi / 2)
            + phi2
        )
        bent2 = (torque + d2 / d1 * phi1 - m2 * l1 * c2 * turn1**2 * sine - phi2) / (m2 * c2**2 + inertia - d2**2 / d1)
        return np.stack([turn1, turn2, -(d2 * bent2 + phi1) / d1, bent2], 1)


ENVIRONMENTS: dict[str, Environment] = {environment.name: environment for environment in (CartPole(), Acrobot())}


def environment_named(name: str) -> Environment:
    """Return an environment by Gymnasium's id: one that is computed here, or Gymnasium's own.

    Raises:
        ConfigError: there is none, or a package is missing.
    """
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    from fedjourney.gymnasium_environments import gymnasium_environment

    return gymnasium_environment(name)
