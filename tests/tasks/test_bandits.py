"""Bandits: the optimum against every policy there is, the rules against plain loops, rollouts against their tables."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import beta as beta_function
from torch.func import functional_call

import fedjourney
from fedjourney import bandits, config
from fedjourney.batching import gradient
from fedjourney.data import Source
from fedjourney.data.bandits import bandits as trials_of
from fedjourney.errors import ConfigError, DataError
from fedjourney.plan import Plan, plan
from fedjourney.seeds import permutation

SMALL = """
[experiment]
name = "small"
rounds = 2
[data]
name = "bandits"
arms = 3
pulls = 4
families = 3
trials = 12
validation = 2
test = 6
[partition]
name = "natural"
by = "family"
[model]
name = "gru"
width = 4
answers = "every"
[task]
name = "bandits"
trials = 6
batch_size = 4
[engine]
name = "serial"
"""
UNIFORM = np.array([[1.0, 1.0]])


def built(*overrides: str, text: str = SMALL) -> Plan:
    return plan(config.parse(text, ["numerics.dtype=float64", *overrides]))


def every_table(arms: int, pulls: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all tables of rewards [n, T, K] and how probable each is when chances are drawn from Beta(a, b)."""
    tables = np.array(list(product([0, 1], repeat=arms * pulls))).reshape(-1, pulls, arms)
    won = tables.sum(1)
    return tables, (beta_function(a + won, b + pulls - won) / beta_function(a, b)).prod(1)


def test_a_run_without_test_trials_shows_nothing_and_one_of_a_single_pull_learns(tmp_path: Path) -> None:
    found = fedjourney.run(config.parse(SMALL, ["data.test=0", "data.pulls=1", "task.trials=1"]), tmp_path / "a")
    assert not (found.folder / "exhibit.json").exists()
    assert all(row["clients"]["answered"] == 3 for row in found.rounds[1:])


@pytest.mark.parametrize(("arms", "pulls"), [(1, 5), (2, 7), (3, 5), (7, 5), (20, 3)])
def test_counts_are_as_many_as_can_be_listed_and_arms_that_cannot_be_pulled_add_nothing(arms: int, pulls: int) -> None:
    states, listed = {((0, 0),) * arms}, 1
    for _ in range(pulls - 1):
        states = {
            tuple(sorted((*state[:k], (state[k][0] + won, state[k][1] + 1 - won), *state[k + 1 :])))
            for state in states for k in range(arms) for won in (0, 1)
        }  # fmt: skip
        listed += len(states)
    assert bandits.count_of_states(arms, pulls) == listed
    more = bandits.bayes_optimum(arms + pulls, pulls, UNIFORM)
    assert (bandits.bayes_optimum(arms, pulls, UNIFORM) == more) == (arms >= pulls)


@pytest.mark.parametrize(("arms", "pulls"), [(2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.6, 2.5)])
def test_the_optimum_is_the_best_of_every_policy(arms: int, pulls: int, prior: tuple[float, float]) -> None:
    tables, weights = every_table(arms, pulls, *prior)
    assert weights.sum() == pytest.approx(1)
    histories = [history for length in range(pulls) for history in product([0, 1], repeat=length)]  # what was paid
    best = 0.0
    for chosen in product(range(arms), repeat=len(histories)):
        arm_after, earned = dict(zip(histories, chosen, strict=True)), 0.0
        for table, weight in zip(tables, weights, strict=True):
            history: tuple[int, ...] = ()
            for row in table:
                history += (int(row[arm_after[history]]),)
            earned += weight * sum(history)
        best = max(best, earned)
    assert bandits.bayes_optimum(arms, pulls, np.array([prior]))[0] == pytest.approx(best, abs=1e-12)


def test_the_optimum_is_the_published_one_and_greedy_comes_near_it() -> None:
    assert bandits.bayes_optimum(5, 10, UNIFORM)[0] == pytest.approx(6.660, abs=5e-4)
    for arms, pulls in ((2, 4), (3, 3)):
        tables, weights = every_table(arms, pulls, 1.0, 1.0)
        best = bandits.bayes_optimum(arms, pulls, UNIFORM)[0]
        greedy = weights @ bandits.play(bandits.greedy(np.ones((len(tables), 2))), tables)
        assert 0.9 * best < greedy <= best + 1e-12
        assert weights @ bandits.play(bandits.upper_confidence, tables) <= best + 1e-12


def test_cases_are_computed_each_alone() -> None:
    priors = np.array([[1.0, 1.0], [3.0, 0.5], [0.2, 0.9]])
    together = bandits.bayes_optimum(2, 9, priors)
    assert together.tolist() == [bandits.bayes_optimum(2, 9, priors[n : n + 1])[0] for n in range(3)]


def test_rules_are_their_definitions_trial_by_trial() -> None:
    chance = np.random.default_rng(0)
    tables, priors = chance.integers(0, 2, (40, 8, 3)), chance.uniform(0.3, 3, (40, 2))
    draws = chance.random(tables.shape)
    ours = {
        "greedy": bandits.play(bandits.greedy(priors), tables),
        "ucb1": bandits.play(bandits.upper_confidence, tables),
        "thompson": bandits.play(bandits.thompson(priors, draws), tables),
    }
    for trial, (table, (a, b)) in enumerate(zip(tables, priors, strict=True)):
        for rule, earned in ours.items():
            paid: list[list[int]] = [[], [], []]
            for pull, row in enumerate(table):
                if rule == "greedy":
                    scores = [((a + sum(arm)) / (a + b + len(arm)), -len(arm)) for arm in paid]
                elif rule == "ucb1":
                    scores = [
                        (np.mean(arm) + np.sqrt(2 * np.log(pull) / len(arm)) if arm else np.inf, 0) for arm in paid
                    ]
                else:
                    posterior = [stats.beta(a + sum(arm), b + len(arm) - sum(arm)) for arm in paid]
                    scores = [(one.ppf(draw), 0) for one, draw in zip(posterior, draws[trial, pull], strict=True)]
                paid[scores.index(max(scores))].append(int(row[scores.index(max(scores))]))
            assert earned[trial] == sum(map(sum, paid)), rule


def test_trials_are_the_same_for_the_same_seed_and_as_their_priors_say() -> None:
    nowhere = Path()
    found, again, other = (
        trials_of(Source(None, nowhere, seed, nowhere), arms=2, pulls=3, families=3, spread=1.0, trials=6000).train
        for seed in (0, 0, 1)
    )
    assert torch.equal(found.y["rewards"], again.y["rewards"])
    assert not torch.equal(found.y["rewards"], other.y["rewards"])
    for family in range(3):
        rows = slice(6000 * family, 6000 * (family + 1))
        a, b = found.y["prior"][rows][0].tolist()
        rewards = found.y["rewards"][rows].double()
        assert float(rewards.mean()) == pytest.approx(a / (a + b), abs=0.02)
        twice = (rewards[:, 0] * rewards[:, 1]).mean()  # the same chance at every pull: E[p²]
        assert float(twice) == pytest.approx(a * (a + 1) / ((a + b) * (a + b + 1)), abs=0.02)
        best = bandits.bayes_optimum(2, 3, np.array([[a, b]]))[0]
        assert (found.y["optimum"][rows] == best).all()
    assert len(found.y["prior"].unique(dim=0)) == 3
    assert (built("data.spread=0.0").dataset.train.y["prior"] == 1).all()


def test_a_rollout_shows_what_was_pulled_and_paid_and_nothing_else() -> None:
    text = SMALL.replace("batch_size = 4\n", "")
    found = built("task.algorithm=reinforce", "task.discount=0.9", "task.trials=9", text=text)
    params, shard = found.task.init(0), found.shard(1)[0]
    (batch,) = found.task.batches(params, shard, 3)
    history, action = batch.x["history"], batch.y["action"]
    assert history.shape == (9, 4, 5)
    assert len(set(action.flatten().tolist())) == 3
    tables = shard.y["rewards"].numpy()
    for trial in range(9):
        arms = action[trial].tolist()
        paid = [*history[trial, 1:, 3].tolist()]
        assert history[trial, :, 4].tolist() == [1, 0, 0, 0]
        assert history[trial, 0, :4].tolist() == [0, 0, 0, 0]
        assert history[trial, 1:, :3].argmax(-1).tolist() == arms[:3]
        assert (history[trial, 1:, :3].sum(-1) == 1).all()
        fits = [table for table in tables if [int(table[t, arms[t]]) for t in range(3)] == paid]
        assert fits
        last = {float(table[3, arms[3]]) for table in fits}
        togo = [sum(0.9**k * r for k, r in enumerate([*paid, end][t:])) for end in last for t in range(4)]
        returns = batch.y["return"][trial].tolist()
        assert any(returns == pytest.approx(togo[4 * n : 4 * n + 4], abs=1e-12) for n in range(len(last)))
    # what the loss reads in one go is what was acted on step by step
    outputs = functional_call(found.task._model, params, (history,))  # type: ignore[attr-defined]
    logs = torch.log_softmax(outputs[..., :3], -1).gather(-1, action[..., None]).squeeze(-1)
    torch.testing.assert_close(logs, batch.y["log_probability"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [None, dict])
def test_fitness_is_what_evaluation_says_of_each_candidate(build: type | None) -> None:
    found = built("task.episodes=5")
    shard = found.shard(2)[0]
    models = [found.task.init(number) for number in range(4)]
    population = {name: torch.stack([model[name] * 3 for model in models]) for name in models[0]}
    task = found.task.metered()  # type: ignore[attr-defined]
    fitness = task.fitness(population, shard, 11, build)
    some = shard.take(torch.from_numpy(permutation(11, len(shard))[:5]))
    wanted = [
        float(found.task.evaluate({n: t[number] for n, t in population.items()}, some)["reward"]) / 5
        for number in range(4)
    ]
    assert fitness.tolist() == pytest.approx(wanted, abs=1e-12)
    assert len(set(wanted)) > 1
    assert task.spent == {"environment-steps": 4 * 5 * 4.0}


def test_ppo_begins_with_the_policy_gradient() -> None:
    ppo = built("task.batch_size=6", "task.mixing=1.0")
    plain = built("task.algorithm=reinforce", text=SMALL.replace("batch_size = 4\n", ""))
    params, shard = ppo.task.init(0), ppo.shard(0)[0]
    ours, theirs = (next(iter(found.task.batches(params, shard, 7))) for found in (ppo, plain))
    for name, tensor in gradient(plain.task.loss, params, theirs)[0].items():
        mine = gradient(ppo.task.loss, params, ours)[0][name]
        torch.testing.assert_close(mine, tensor, rtol=0, atol=1e-12)


def test_shares_and_the_exhibit_are_of_the_same_trials(tmp_path: Path) -> None:
    found = built("data.spread=1.0", "data.test=40")
    params, test = found.task.init(0), found.dataset.test
    told = found.task.summary(found.task.evaluate(params, test))
    assert told["bayes_share"] == pytest.approx(told["reward"] / told["optimum"])
    assert told["random_share"] < 1
    (table,) = found.task.exhibit(params, test).values()  # type: ignore[attr-defined]
    heads, *families, shares = table.splitlines()
    assert heads.split()[2:6] == ["b", "optimum", "learned", "greedy"]
    rows = np.array([[float(word) for word in line.split()] for line in families])
    assert rows[:, 3].mean() == pytest.approx(told["reward"], abs=1e-3)
    assert float(shares.split()[5].rstrip("%")) / 100 == pytest.approx(told["bayes_share"], abs=1e-4)


def test_steps_are_counted(tmp_path: Path) -> None:
    result = fedjourney.run(config.parse(SMALL + '[update]\nname = "adam"\nepochs = 2\n'), tmp_path / "run")
    assert result.summary["environment_steps"] == 2 * 3 * 2 * 6 * 4  # rounds, clients, rollouts, trials, pulls


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.answers=last"], ["answers after every pull", 'answers = "every"']),
        (["task.algorithm=a2c"], ["[task] batch_size", "Remove it"]),
        (["data.pulls=100", "data.arms=5"], ["exact optimum of 5 arms", "Lower pulls or arms"]),
        (["data.pulls=22", "data.arms=40"], ["exact optimum of 40 arms", "at most 100,000"]),
        (["task.name=control"], ['Take [data] name = "worlds"']),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], words: list[str]) -> None:
    text = SMALL.replace("trials = 6\nbatch_size = 4\n", "") if "control" in overrides[0] else SMALL
    with pytest.raises((ConfigError, DataError)) as error:
        built(*overrides, text=text)
    for word in words:
        assert word in str(error.value)


def test_it_wants_tables_of_rewards(small: str) -> None:
    with pytest.raises(ConfigError, match=r'Take \[data\] name = "bandits"'):
        plan(config.parse(small, ["task.name=bandits"]))
