"""Gymnasium's own environments in worlds: the same episodes as Gymnasium's, and what is said where one cannot be."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fedjourney
from fedjourney import config
from fedjourney.environments import environment_named
from fedjourney.errors import ConfigError
from fedjourney.gymnasium_environments import Gymnasium, gymnasium_environment
from fedjourney.plan import Plan, plan
from fedjourney.tasks._episodes import play, rollout

gymnasium = pytest.importorskip("gymnasium")

SMALL = """
[experiment]
name = "small"
rounds = 1
holdout = 0.5
[data]
name = "worlds"
environment = "MountainCar-v0"
worlds = 2
spread = 0.0
episodes = 6
validation = 1
test = 2
[partition]
name = "natural"
by = "world"
[model]
name = "policy"
hidden = [4]
[task]
name = "control"
environments = 3
steps = 20
[engine]
name = "serial"
"""


def built(*overrides: str) -> Plan:
    return plan(config.parse(SMALL, overrides))


def test_greedy_episodes_are_gymnasiums() -> None:
    found = built()
    environment, test = environment_named("MountainCar-v0"), found.dataset.test
    seeds, made = test.y["state"].numpy(), gymnasium.make("MountainCar-v0")

    def along(seen: torch.Tensor) -> torch.Tensor:  # push where the car moves: it swings up
        return torch.where(seen[:, 1] > 0, 2, 0)

    earned, steps = play(along, environment, seeds, test.y["MountainCar-v0"].numpy())
    for row, (seed,) in enumerate(seeds):
        seen, _ = made.reset(seed=int(seed))
        np.testing.assert_array_equal(test.x["observation"][row], seen)
        total, taken, over = 0.0, 0, False
        while not over:
            seen, reward, terminated, truncated, _ = made.step(2 if seen[1] > 0 else 0)
            total, taken, over = total + float(reward), taken + 1, terminated or truncated
        assert (earned[row], steps[row]) == (total, taken)
    assert steps.max() < 200  # all came up
    assert len(set(steps.tolist())) > 1


def test_a_rollout_can_be_repeated_and_begins_the_next_episode_where_one_ends() -> None:
    found, environment = built(), Gymnasium("MountainCar-v0")
    environment.horizon = 7
    first, again = (
        rollout(lambda seen: torch.zeros(len(seen), 3), environment, found.shard(0)[0], 2, 16, 3) for _ in range(2)
    )
    assert torch.equal(first.observation, again.observation)
    assert torch.equal(first.action, again.action)
    assert first.ended.nonzero()[:, 0].tolist() == [6, 6, 13, 13]
    assert (first.observation[[0, 7, 14], :, 1] == 0).all()  # the car begins at rest
    assert (first.following[[6, 13], :, 1] != 0).all()


def test_a_lunar_lander_lands_in_the_world_that_it_is_told() -> None:
    pytest.importorskip("Box2D")
    standard = environment_named("LunarLander-v3")
    assert (standard.actions, standard.horizon, standard.threshold) == (4, 1000, 200.0)
    seeds = np.array([[5.0], [5.0], [5.0]])
    worlds = np.array([[-10.0, 0.0, 0.0], [-10.0, 0.0, 0.0], [-8.5, -12.0, 1.0]])
    earned, steps = play(lambda seen: torch.zeros(len(seen), dtype=torch.int64), standard, seeds, worlds)
    assert earned[0] == earned[1] != earned[2]
    assert steps[0] == steps[1] < steps[2]  # it falls more slowly
    made = gymnasium.make("LunarLander-v3", gravity=-8.5, enable_wind=True, wind_power=12.0, turbulence_power=1.0)
    made.reset(seed=5)
    total, over = 0.0, False
    while not over:
        _, reward, terminated, truncated, _ = made.step(0)
        total, over = total + float(reward), terminated or truncated
    assert earned[2] == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.environment=Pendulum-v1"], ["numbered actions", "Box"]),
        (["data.environment=Blackjack-v1"], ["observations of one axis"]),
        (["data.environment=Lander-v9"], ["[data] environment", "CartPole-v1, Acrobot-v1"]),
        (["data.spread=0.5"], ["[data] spread", "Set spread = 0"]),
    ],
)
def test_what_cannot_be_played_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        built(*overrides)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("package", "environment"), [("gymnasium", "MountainCar-v0"), ("Box2D", "LunarLander-v3")])
def test_a_missing_package_is_named_with_its_extra(
    package: str, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[:3] == ["gymnasium", "envs", "box2d"]]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    gymnasium_environment.cache_clear()
    with pytest.raises(ConfigError, match=r"fedjourney\[rl\]"):
        built(f"data.environment={environment}")


def test_an_environment_comes_up_where_warnings_are_errors() -> None:
    pytest.importorskip("Box2D")
    code = "from fedjourney.environments import environment_named; print(environment_named('LunarLander-v3').actions)"
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", code]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"4\n"


@pytest.mark.kill
def test_every_engine_gives_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("Box2D")
    overrides = ["data.environment=LunarLander-v3", "data.spread=1.0"]
    serial = fedjourney.run(config.parse(SMALL, overrides), tmp_path / "serial")
    local = fedjourney.run(
        config.parse(SMALL, [*overrides, "engine.name=local", "engine.workers=2"]), tmp_path / "local"
    )
    assert local.digest == serial.digest
