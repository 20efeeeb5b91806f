"""Control: rollouts, estimates, losses and returns against what is computed another way; whole runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from scipy import stats

import fedjourney
from fedjourney import config
from fedjourney.batching import Batch, gradient
from fedjourney.environments import ENVIRONMENTS, CartPole
from fedjourney.errors import ConfigError
from fedjourney.plan import Plan, plan
from fedjourney.seeds import permutation
from fedjourney.tasks._episodes import Rollout, advantages, rollout
from fedjourney.updates import Client, LocalUpdate

SMALL = """
[experiment]
name = "small"
rounds = 2
holdout = 0.5
[data]
name = "worlds"
worlds = 4
episodes = 8
validation = 2
test = 6
[partition]
name = "natural"
by = "world"
unseen = 0.25
[model]
name = "policy"
hidden = [8]
[task]
name = "control"
environments = 3
steps = 20
[engine]
name = "serial"
"""
ADAM = '[update]\nname = "adam"\nlearning_rate = 0.01\nclip = 0.5\nepochs = 2\n'


def built(*overrides: str, text: str = SMALL + ADAM) -> Plan:
    return plan(config.parse(text, ["numerics.dtype=float64", *overrides]))


def estimates(found: Rollout, values: np.ndarray, following: np.ndarray, discount: float, mixing: float) -> np.ndarray:
    """Return generalised advantages as the λ-weighted mean of n-step estimates, straight from their definition."""
    steps, count = values.shape
    reward, over, cut = (tensor.numpy() for tensor in (found.reward, found.terminated, found.ended))
    wanted = np.zeros((steps, count))
    for one in range(count):
        for t in range(steps):
            last = next((s for s in range(t, steps) if cut[s, one]), steps - 1)
            longest = last - t + 1
            n_step = []
            for n in range(1, longest + 1):
                total = sum(discount**k * reward[t + k, one] for k in range(n))
                rest = 0.0 if over[t + n - 1, one] else following[t + n - 1, one]
                n_step.append(total + discount**n * rest - values[t, one])
            weights = [(1 - mixing) * mixing ** (n - 1) for n in range(1, longest)] + [mixing ** (longest - 1)]
            wanted[t, one] = np.dot(weights, n_step)
    return wanted


@pytest.mark.parametrize("mixing", [0.0, 0.7, 1.0])
def test_advantages_are_the_mixture_of_n_step_estimates(mixing: float) -> None:
    chance = np.random.default_rng(1)
    shape, nothing = (9, 4), torch.zeros(0)
    over = chance.random(shape) < 0.2
    cut = over | (chance.random(shape) < 0.2)  # some by the time limit
    found = Rollout(nothing, nothing, nothing, *map(torch.from_numpy, (chance.normal(size=shape), over, cut)))
    values, following = chance.normal(size=shape), chance.normal(size=shape)
    following[:-1] = np.where(cut[:-1], following[:-1], values[1:])  # within an episode the same observation
    ours = advantages(found, torch.from_numpy(values), torch.from_numpy(following), 0.9, mixing)
    wanted = estimates(found, values, following, 0.9, mixing)
    np.testing.assert_allclose(ours["advantage"], wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours["return"], wanted + values, rtol=1e-12, atol=1e-12)


class Short(CartPole):
    horizon = 12


def test_a_rollout_plays_the_shards_episodes_one_after_the_other_up_to_the_time_limit() -> None:
    shard = built("data.spread=1.0").shard(1)[0]
    environment = Short()

    def left(seen: torch.Tensor) -> torch.Tensor:
        return torch.tensor([40.0, -40.0]).expand(len(seen), 2) * torch.sign(seen[:, 2:3] - 0.02)  # some last

    found = rollout(left, environment, shard, 3, 60, 5)
    world, starts = shard.y["CartPole-v1"].numpy()[:1], shard.y["state"].numpy()
    order, begun, limited = permutation(fedjourney.seeds.seed_for(5, "starts"), len(shard)), 3, 0
    state, age = starts[order[:3]], [0, 0, 0]
    for t in range(60):
        for one in range(3):
            np.testing.assert_array_equal(found.observation[t, one], environment.observe(state[one : one + 1])[0])
            assert int(found.action[t, one]) == int(found.observation[t, one, 2] <= 0.02)
            after, reward, over = environment.step(state[one : one + 1], found.action[t, one : one + 1].numpy(), world)
            age[one] += 1
            np.testing.assert_array_equal(found.following[t, one], environment.observe(after)[0])
            assert (float(found.reward[t, one]), bool(found.terminated[t, one])) == (float(reward[0]), bool(over[0]))
            assert bool(found.ended[t, one]) == (bool(over[0]) or age[one] == 12)
            limited += age[one] == 12 and not over[0]
            if found.ended[t, one]:
                after, age[one], begun = starts[order[begun % len(order)]][None], 0, begun + 1
            state[one] = after[0]
    assert limited
    assert found.terminated.any()


@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "ppo"])
def test_gradients_are_finite_differences_and_padding_changes_nothing(algorithm: str) -> None:
    found = built(f"task.algorithm={algorithm}", "task.entropy=0.1")
    params, shard = found.task.init(0), found.shard(0)[0]
    batches = list(found.task.batches(params, shard, 0))
    moved = {name: tensor + 0.05 * torch.cos(tensor * 100) for name, tensor in params.items()}  # ratios differ from 1
    assert len(batches) == (4 if algorithm == "ppo" else 1)
    batch = batches[0]
    grads, _ = gradient(found.task.loss, moved, batch)
    for name in ("actor.0.weight", "critic.2.bias"):
        bump = torch.zeros_like(moved[name])
        bump.view(-1)[0] = 1e-6
        ahead, behind = (found.task.loss(moved | {name: moved[name] + s * bump}, batch) for s in (1, -1))
        torch.testing.assert_close(grads[name].view(-1)[0], (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)
    extra = Batch(
        {n: torch.cat([t, 9 + t[:5]]) for n, t in batch.x.items()},
        {n: torch.cat([t, t[:5]]) for n, t in batch.y.items()},
        torch.cat([batch.mask, torch.zeros(5)]),
        batch.key,
    )
    for name, tensor in gradient(found.task.loss, moved, extra)[0].items():
        torch.testing.assert_close(tensor, grads[name], rtol=0, atol=1e-12)


def test_ppo_begins_with_the_policy_gradient_and_stops_where_it_clips() -> None:
    ppo, plain = built("task.batch_size=60"), built("task.algorithm=a2c")
    params, shard = ppo.task.init(0), ppo.shard(0)[0]
    ours, theirs = (next(iter(found.task.batches(params, shard, 7))) for found in (ppo, plain))
    for name, tensor in gradient(plain.task.loss, params, theirs)[0].items():
        torch.testing.assert_close(gradient(ppo.task.loss, params, ours)[0][name], tensor, rtol=0, atol=1e-12)
    gained = ours.y["advantage"].sign() * 0.3  # every action already more likely by more than the clip, where good
    far = ours._replace(y=ours.y | {"log_probability": ours.y["log_probability"] - gained})
    for name, tensor in gradient(ppo.task.loss, params, far)[0].items():
        assert tensor.any() == name.startswith("critic")


@pytest.mark.parametrize(("environment", "build"), [("CartPole-v1", None), ("Acrobot-v1", None), ("CartPole-v1", dict)])
def test_fitness_is_what_evaluation_says_of_each_candidate(environment: str, build: type | None) -> None:
    found = built(f"data.environment={environment}", "task.episodes=3")
    shard, seed = found.shard(2)[0], 11
    models = [found.task.init(number) for number in range(4)]
    population = {name: torch.stack([model[name] * 3 for model in models]) for name in models[0]}
    task = found.task.metered()  # type: ignore[attr-defined]
    fitness = task.fitness(population, shard, seed, build)
    rows, steps = torch.from_numpy(permutation(seed, len(shard))[:3]), 0.0
    for candidate, number in enumerate(fitness):
        params = {name: tensor[candidate] for name, tensor in population.items()}
        sums = found.task.evaluate(params, shard.take(rows))
        assert float(number) == pytest.approx(float(sums["return"]) / 3, abs=1e-12)
        steps += float(sums["steps"])
    assert task.spent == {"environment-steps": steps}
    assert found.task.spent["environment-steps"] == found.task.metered().spent["environment-steps"] + 60  # type: ignore[attr-defined]  # the plan's own try


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_metrics_add_up_over_any_cut_and_the_inner_half_is_scipys(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = built(f"data.environment={environment}", "data.test=2")
    monkeypatch.setattr(type(found.task.environment), "horizon", 90)  # type: ignore[attr-defined]
    params, examples = found.task.init(1), found.dataset.test
    if environment == "Acrobot-v1":  # push along with the second link's turning: some swing up in time
        weight = torch.zeros(3, 8, dtype=torch.float64)
        weight[2, 0], weight[0, 0], first = 1, -1, torch.zeros(8, 6, dtype=torch.float64)
        first[0, 5] = 1
        params |= {"actor.0.weight": first, "actor.2.weight": weight}
    whole = found.task.evaluate(params, examples)
    alone = [found.task.evaluate(params, examples.cut(slice(row, row + 1))) for row in range(len(examples))]
    for name, total in whole.items():
        assert torch.equal(sum(sums[name] for sums in alone), total)
    returns = [float(sums["return"]) for sums in alone]
    told = found.task.summary(whole)
    assert len(set(returns)) > 2
    assert told["return"] == pytest.approx(np.mean(returns))
    assert told["interquartile_mean"] == pytest.approx(stats.trim_mean(returns, 0.25))
    assert found.task.summary(found.task.evaluate(params, examples.cut(slice(0, 0)))) == {}


def test_the_exhibit_has_every_world_once() -> None:
    found = built("data.validation=0", "data.test=3")
    params = found.task.init(0)
    (table,) = found.task.exhibit(params, found.dataset.test).values()  # type: ignore[attr-defined]
    heads, *lines = table.splitlines()
    assert heads.split() == ["return", *CartPole.standard]
    rows = np.array([[float(word) for word in line.split()] for line in lines])
    assert len(rows) == 4
    assert (np.diff(rows[:, 0]) >= 0).all()
    told = found.task.summary(found.task.evaluate(params, found.dataset.test))
    assert rows[:, 0].mean() == pytest.approx(told["return"], abs=0.01)


def test_adam_is_torchs_adam_on_the_same_rollouts() -> None:
    found = built()
    params, half = found.task.init(0), found.halves["train"]
    assert isinstance(half, LocalUpdate)
    shard = found.shard(1)[0]
    reply = Client(1, 1, params, {}, {}, shard, found.task, 0).train(half)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=0.01)
    for number in range(2):
        seed = fedjourney.seeds.seed_for(0, "batches", 1, 1, number)
        for batch in found.task.batches({n: t.detach().clone() for n, t in leaves.items()}, shard, seed):
            optimizer.zero_grad()
            found.task.loss(leaves, batch).backward()
            torch.nn.utils.clip_grad_norm_(leaves.values(), 0.5)
            optimizer.step()
    for name, tensor in leaves.items():
        torch.testing.assert_close(params[name] + reply.tensors[f"update/{name}"], tensor, rtol=0, atol=1e-10)


def test_worlds_differ_as_far_as_they_may() -> None:
    same, wide = built("data.spread=0.0").dataset, built("data.spread=1.0", "data.worlds=40").dataset
    standard = torch.tensor(list(CartPole.standard.values()), dtype=torch.float64)
    assert (same.train.y["CartPole-v1"] == standard).all()
    assert float(same.train.y["state"].abs().max()) <= CartPole.start
    length = wide.train.y["CartPole-v1"][::8, 3] / 0.5
    assert float(length.max()) == pytest.approx(3, rel=0.1)
    assert float(length.min()) == pytest.approx(1 / 3, rel=0.1)
    assert len(np.unique(wide.columns["world"])) == 40
    assert not set(wide.train.y["state"][:, 0].tolist()) & set(wide.test.y["state"][:, 0].tolist())


OPEN_ES = '[strategy]\nname = "open_es"\npopulation = 4\n'


@pytest.mark.kill
@pytest.mark.parametrize("rest", [ADAM, OPEN_ES], ids=["fedavg", "open_es"])
def test_every_engine_gives_the_same_bits(rest: str, tmp_path: Path) -> None:
    serial = fedjourney.run(config.parse(SMALL + rest), tmp_path / "a")
    for workers in (1, 2):
        overrides = ["engine.name=local", f"engine.workers={workers}"]
        assert fedjourney.run(config.parse(SMALL + rest, overrides), tmp_path / str(workers)).digest == serial.digest


class StopError(Exception):
    """Ends a run after its first round."""


def stop(row: dict[str, object]) -> None:
    if row["round"] == 1:
        raise StopError


@pytest.mark.parametrize("strategy", ["fedavg", "open_es"])
def test_steps_are_counted_in_lanes_and_over_a_resume(strategy: str, tmp_path: Path) -> None:
    text = SMALL + (ADAM if strategy == "fedavg" else OPEN_ES)
    serial = fedjourney.run(config.parse(text), tmp_path / "a")
    with pytest.raises(StopError):
        fedjourney.run(config.parse(text), tmp_path / "b", watch=stop)
    assert fedjourney.resume(tmp_path / "b").digest == serial.digest
    rows = parquet.read_table(serial.folder / "clients.parquet").to_pylist()
    assert len(rows) == 6  # three worlds train, twice
    assert serial.summary["environment_steps"] == sum(row["environment-steps"] for row in rows) > 0
    if strategy == "fedavg":
        assert {row["environment-steps"] for row in rows} == {2 * 3 * 20.0}  # passes, episodes side by side, steps
        lanes = fedjourney.run(config.parse(text, ["numerics.lanes=2"]), tmp_path / "c")
        assert lanes.summary["environment_steps"] == serial.summary["environment_steps"]
        assert serial.rounds[-1]["unseen"]["return"]["mean"] > 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.critic=false"], ["expects a model with a value", "critic = true"]),
        (["task.algorithm=a2c", "task.clip=0.1"], ["[task] clip", "`--set task.clip=`"]),
        (["task.algorithm=reinforce", "task.mixing=0.9"], ["[task] mixing"]),
        (["data.environment=Pong-v5"], ["environment", "CartPole-v1", "Acrobot-v1"]),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        built(*overrides)
    for word in words:
        assert word in str(error.value)


def test_control_wants_worlds(small: str) -> None:
    with pytest.raises(ConfigError, match=r'Take \[data\] name = "worlds"'):
        plan(config.parse(small, ["task.name=control"]))


def test_a_policy_without_a_value_learns_by_reinforce_or_evolution() -> None:
    text = SMALL.replace('"policy"', '"mlp"')
    params = built("task.algorithm=reinforce", text=text + ADAM).task.init(0)
    assert [tuple(tensor.shape) for tensor in params.values()] == [(8, 4), (8,), (2, 8), (2,)]


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_a_rollout_of_one_step_is_learned_from_by_its_advantage(algorithm: str) -> None:
    task = built("task.environments=1", "task.steps=1", f"task.algorithm={algorithm}", "model.critic=true").task
    advantage = torch.tensor([0.25], dtype=torch.float64)
    logits = torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    y = task.learned_from(logits, torch.tensor([1]), {"advantage": advantage, "return": advantage})  # type: ignore[attr-defined]
    assert torch.equal(y["advantage"], advantage)
    two = torch.tensor([0.25, 0.75], dtype=torch.float64)
    y = task.learned_from(logits.expand(2, 2), torch.tensor([1, 0]), {"advantage": two, "return": two})  # type: ignore[attr-defined]
    np.testing.assert_allclose(y["advantage"].numpy(), stats.zscore(two.numpy(), ddof=1), rtol=1e-6)


def test_scaled_rewards_are_learned_from_and_not_told() -> None:
    text = SMALL.replace('"policy"', '"mlp"') + ADAM  # without a value what is learned from is the reward alone
    plain, scaled = (built("task.algorithm=reinforce", f"task.reward_scale={by}", text=text) for by in (1.0, 0.25))
    params, shard = plain.task.init(0), plain.shard(0)[0]
    ours, theirs = (next(iter(found.task.batches(params, shard, 7))) for found in (scaled, plain))
    torch.testing.assert_close(ours.y["return"], 0.25 * theirs.y["return"], rtol=0, atol=1e-12)
    test = plain.dataset.test
    assert scaled.task.evaluate(params, test)["return"] == plain.task.evaluate(params, test)["return"]
