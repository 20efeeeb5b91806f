"""The cosine of a step with the true gradient, against closed forms in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedjourney
from fedjourney import config
from fedjourney.errors import ConfigError
from fedjourney.noise import rademacher
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for

TEXT = """
[experiment]
name = "small"
rounds = 2
cohort = 3
evaluate_every = 0
holdout = 0.2
cosine_every = 2
[data]
name = "digits"
[partition]
name = "dirichlet"
clients = 6
alpha = 0.3
[model]
name = "mlp"
hidden = []
[task]
name = "classification"
batch_size = 30
[engine]
name = "serial"
"""
ES = '[strategy]\nname = "open_es"\npopulation = 8\nutility = "raw"\nshaping = "client"\n'


def softmax_regression(built: Plan, params: dict[str, torch.Tensor], weighted: bool) -> np.ndarray:
    """Return the gradient of mean cross-entropy by its closed form, (p - y) ⊗ x: bias and weight as in `params`."""
    weight, bias = (next(t.double().numpy() for t in params.values() if t.dim() == dim) for dim in (2, 1))
    clients = [built.rows(client)[0] for client in range(6)]
    total = [np.zeros_like(weight), np.zeros_like(bias)]
    for rows in clients:
        x = next(iter(built.dataset.train.x.values()))[rows].double().flatten(1).numpy()
        y = next(iter(built.dataset.train.y.values()))[rows].numpy()
        logits = x @ weight.T + bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(y)), y] -= 1
        part = len(rows) / sum(map(len, clients)) if weighted else 1 / 6
        total[0] += part * shares.T @ x / len(rows)
        total[1] += part * shares.mean(0)
    return np.concatenate([total[0 if t.dim() == 2 else 1].reshape(-1) for t in params.values()])


def flat(params: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([t.double().numpy().reshape(-1) for t in params.values()])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def after(text: str, rounds: int, out: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], str]:
    found = fedjourney.run(config.parse(text.replace("rounds = 2", f"rounds = {rounds}")), out)
    return found.parameters, found.rounds, found.digest


@pytest.mark.parametrize("strategy", ["", '[strategy]\nname = "median"\n', ES + 'optimizer = "adam"\n'])
def test_it_is_that_of_the_step_with_the_clients_mean_gradient(strategy: str, tmp_path: Path) -> None:
    text = TEXT + strategy
    before, _, _ = after(text, 1, tmp_path / "one")
    moved, rounds, digest = after(text, 2, tmp_path / "two")
    truth = softmax_regression(plan(config.parse(text)), before, weighted="median" not in strategy)
    step = rounds[2]["step"]
    assert step["cosine"] == pytest.approx(cosine(flat(moved) - flat(before), -truth), abs=1e-5)
    assert "cosine" not in rounds[1].get("step", {})
    assert ("estimate_cosine" in step) == bool(strategy and "open_es" in strategy)
    if strategy == "":  # to look changes nothing
        assert digest == after(text.replace("cosine_every = 2\n", ""), 2, tmp_path / "off")[2]


def test_the_estimate_is_what_the_optimiser_was_given(tmp_path: Path) -> None:
    text = TEXT.replace("cosine_every = 2", "cosine_every = 1").replace("cohort = 3", "cohort = 6")
    text = text.replace("batch_size = 30", "batch_size = 2000") + ES + "sigma = 0.001\n"  # a whole shard is scored
    built = plan(config.parse(text))
    start = built.task.init(seed_for(0, "model"))
    truth, slopes = softmax_regression(built, start, weighted=True), np.zeros(650)
    for pair in range(4):
        z = rademacher(seed_for(0, "directions", 1, pair), {"": torch.zeros(650)})[""].double().numpy()
        slopes -= (z @ truth) * z / 4
    for optimizer, kept in (("sgd", True), ("adam", False)):
        step = after(f'{text}optimizer = "{optimizer}"\n', 1, tmp_path / optimizer)[1][1]["step"]
        assert step["estimate_cosine"] == pytest.approx(cosine(slopes, -truth), abs=2e-3)
        assert (step["cosine"] == pytest.approx(step["estimate_cosine"], abs=2e-3)) == kept


def test_a_round_that_estimates_nothing_is_told_no_earlier_estimate(tmp_path: Path) -> None:
    text = TEXT.replace("cosine_every = 2", "cosine_every = 1") + '[strategy]\nname = "alternating"\npopulation = 4\n'
    _, rounds, _ = after(text, 3, tmp_path / "run")  # gradients, evolution, gradients
    assert ["estimate_cosine" in row["step"] for row in rounds[1:]] == [False, True, False]


@pytest.mark.deploy
@pytest.mark.parametrize("engine", ['name = "local"\nworkers = 2', 'name = "flower"\nnodes = 2'])
def test_it_is_the_same_on_every_engine(engine: str, tmp_path: Path) -> None:
    text = TEXT + ES
    here = after(text, 2, tmp_path / "serial")[1][2]["step"]
    assert here == after(text.replace('name = "serial"', engine), 2, tmp_path / "other")[1][2]["step"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cosine_every = 2", "cosine_every = 0", "greater than or equal to 1"),
        ('name = "dirichlet"\nclients = 6\nalpha = 0.3', 'name = "virtual"\nclients = 6', "only when they are drawn"),
        ('name = "classification"\nbatch_size = 30', 'name = "prototypes"\nshots = 1', "mean over the examples"),
    ],
)
def test_where_there_is_no_true_gradient_it_is_refused(old: str, new: str, said: str) -> None:
    text = TEXT.replace(old, new)
    if "prototypes" in new:
        text = text.replace('name = "digits"', 'name = "unseen_classes"')
        text = text.replace('name = "dirichlet"\nclients = 6\nalpha = 0.3', 'name = "iid"\nclients = 3')
    with pytest.raises(ConfigError, match=said):
        plan(config.parse(text))
