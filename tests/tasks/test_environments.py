"""The environments are Gymnasium's, step by step, in any world."""

import numpy as np
import pytest

from fedjourney.environments import ENVIRONMENTS

gymnasium = pytest.importorskip("gymnasium")


def enter(inner: object, name: str, world: dict[str, float], action: int) -> None:
    """Give Gymnasium's environment the numbers of a world; it knows no bias, so that its force is set per action."""
    if name == "CartPole-v1":
        named = {"gravity": world["gravity"], "masscart": world["cart"], "masspole": world["pole"]}
        named |= {"length": world["length"], "total_mass": world["cart"] + world["pole"]}
        named |= {"polemass_length": world["pole"] * world["length"]}
        named |= {"force_mag": world["force"] + (world["bias"] if action == 1 else -world["bias"])}
    else:
        named = {"LINK_MASS_1": world["mass_1"], "LINK_MASS_2": world["mass_2"], "LINK_LENGTH_1": world["length_1"]}
        named |= {"LINK_COM_POS_1": world["centre_1"], "LINK_COM_POS_2": world["centre_2"]}
        named |= {"AVAIL_TORQUE": [torque + world["bias"] for torque in (-1.0, 0.0, 1.0)]}
    for attribute, number in named.items():
        assert hasattr(inner, attribute)
        setattr(inner, attribute, number)


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("unlike", [False, True])
def test_every_step_is_gymnasiums(name: str, unlike: bool) -> None:
    ours, theirs = ENVIRONMENTS[name], gymnasium.make(name)
    assert (theirs.action_space.n, theirs.spec.max_episode_steps) == (ours.actions, ours.horizon)
    assert theirs.spec.reward_threshold == ours.threshold
    inner, chance = theirs.unwrapped, np.random.default_rng(3)
    ended = 0
    for episode in range(3):
        world = dict(ours.standard)
        if unlike:
            for key, most in ours.unlike.items():
                place = chance.uniform(-1, 1)
                world[key] = world[key] * most**place if world[key] else most * place
        numbers = np.array([list(world.values())])
        seen, _ = theirs.reset(seed=episode)
        assert np.abs(inner.state).max() <= ours.start
        for _ in range(ours.horizon):
            state, action = np.array(inner.state, dtype=np.float64), int(chance.integers(ours.actions))
            if name == "Acrobot-v1" and chance.random() < 0.8:  # push along with the second link: it swings up
                action = 2 if state[3] > 0 else 0
            np.testing.assert_allclose(ours.observe(state[None])[0], seen, rtol=0, atol=1e-6)
            enter(inner, name, world, action)
            seen, reward, terminated, truncated, _ = theirs.step(action)
            after, rewards, over = ours.step(state[None], np.array([action]), numbers)
            np.testing.assert_allclose(after[0], inner.state, rtol=1e-12, atol=1e-12)
            assert (float(rewards[0]), bool(over[0])) == (reward, terminated)
            if terminated or truncated:
                ended += terminated
                break
    assert ended  # both the way on and the end have been seen


def test_rows_do_not_touch_each_other() -> None:
    for environment in ENVIRONMENTS.values():
        chance = np.random.default_rng(0)
        states = chance.uniform(-0.2, 0.2, (37, 4))
        worlds = np.tile(list(environment.standard.values()), (37, 1))
        actions = chance.integers(environment.actions, size=37)
        together = environment.step(states, actions, worlds)
        for row in range(37):
            alone = environment.step(states[row : row + 1], actions[row : row + 1], worlds[row : row + 1])
            for ours, theirs in zip(alone, together, strict=True):
                assert (ours[0] == theirs[row]).all()
