"""The ceiling: everybody's examples in one place, at a cohort's gradient work, for no bytes, and only in simulation."""

from pathlib import Path

import pytest
import torch
from quadratic import Federation, flat, unlike

import fedjourney
from fedjourney import config
from fedjourney.batching import gradient, minibatches
from fedjourney.errors import ConfigError
from fedjourney.plan import plan
from fedjourney.seeds import seed_for

CENTRALIZED = '[strategy]\nname = "centralized"\n'


def test_one_batch_of_everything_is_gradient_descent_on_the_pooled_examples(small: str, tmp_path: Path) -> None:
    text = small.replace("cohort = 4", "cohort = 1.0\nevaluate_every = 0").replace("rounds = 4", "rounds = 1")
    text += f'[numerics]\ndtype = "float64"\n[task]\nname = "classification"\nbatch_size = 2000\n{CENTRALIZED}'
    result = fedjourney.run(config.parse(text), tmp_path / "run")
    built = plan(config.parse(text))
    shards = [built.shard(index)[0] for index in range(8)]
    assert len(built.pool) == sum(map(len, shards)) < len(built.dataset.train)  # what is held out stays out
    whole, params = built.pool, built.task.init(seed_for(0, "model"))
    grads, _ = gradient(built.task.loss, params, next(iter(minibatches(whole.x, whole.y, len(whole), 0))))
    for name, tensor in result.parameters.items():
        torch.testing.assert_close(tensor, params[name] - 0.1 * grads[name], rtol=0, atol=1e-12)


def test_a_round_is_a_cohorts_work_and_every_example_has_its_turn() -> None:
    run = Federation("centralized", {}, unlike(6), cohort=4, update={"name": "sgd", "learning_rate": 0.1, "epochs": 3})
    pool = run.client(1, run.rounds.ask(1, run.params, [2, 3]), 0).shard
    count = len(pool) * 4 // 6
    line = [run.rounds._part(pool, place * count, count).x["b"] for place in range(6)]  # type: ignore[attr-defined]
    assert all(len(part) == count for part in line)
    seen = torch.cat(line)  # two rounds of three epochs of 2/3: four passes over all
    for number in range(4):
        one = seen[number * len(pool) : (number + 1) * len(pool)]
        assert torch.equal(one.sort(0).values, pool.x["b"].sort(0).values)
    assert not torch.equal(seen[: len(pool)], seen[len(pool) : 2 * len(pool)])


def test_unlike_clients_do_not_pull_it_away() -> None:
    update = {"name": "sgd", "learning_rate": 0.02}
    run = Federation("centralized", {}, unlike(6), cohort=2, update=update, batch_size=24).run(600)
    a, b = (torch.stack([shard.x[name][0] for shard in run.shards]) for name in ("a", "b"))
    torch.testing.assert_close(flat(run.params), (a * b).sum(0) / a.sum(0), rtol=0, atol=0.1)


def test_nothing_is_charged_and_one_reply_is_enough(small: str, tmp_path: Path) -> None:
    text = small.replace("rounds = 4", "rounds = 2\nmin_replies = 2") + CENTRALIZED
    rounds = fedjourney.run(config.parse(text), tmp_path / "run").rounds
    for row in rounds[1:]:
        assert (row["clients"]["asked"], row["clients"]["answered"], row["clients"]["counted"]) == (1, 1, True)
        assert row["bytes_up"] == row["bytes_down"] == 0
    assert rounds[-1]["test"]["accuracy"] > rounds[0]["test"]["accuracy"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "serial"', 'name = "flower"', "clients on separate machines do not have"),
        ('name = "dirichlet"\nclients = 8\nalpha = 0.5', 'name = "virtual"\nclients = 8', "only when they are drawn"),
        ("[engine]", '[[transform]]\nname = "half"\n[engine]', "sends none"),
    ],
)
def test_where_the_examples_are_not_in_one_place_it_is_refused(
    old: str, new: str, said: str, small: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        fedjourney.run(config.parse(small.replace(old, new) + CENTRALIZED), tmp_path / "run")
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()
