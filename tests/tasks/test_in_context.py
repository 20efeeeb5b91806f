"""Functions learned by reading them: the best predictor by another formula, sequences, metrics, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedjourney import config
from fedjourney.data import Examples, Source
from fedjourney.data.functions import best_predictions, functions
from fedjourney.errors import ConfigError, DataError
from fedjourney.plan import plan

SMALL = """
[experiment]
name = "small"
rounds = 1
[data]
name = "functions"
shots = 6
families = 3
sequences = 8
validation = 2
test = 10
[partition]
name = "natural"
by = "family"
[model]
name = "gru"
width = 4
answers = "every"
[task]
name = "in_context"
[engine]
name = "serial"
[numerics]
dtype = "float64"
"""


def made(seed: int = 0, **options: object) -> Examples:
    return functions(Source(None, Path(), seed, Path()), **options).train  # type: ignore[arg-type]


def test_the_best_predictor_is_a_gaussian_process_conditioned_on_the_pairs_before() -> None:
    chance = np.random.default_rng(0)
    features, scales, noise = chance.normal(size=(5, 8, 3)), chance.uniform(0.3, 2, (5, 3)), 0.2
    value = chance.normal(size=(5, 8))
    ours = best_predictions(features, value, noise / scales)
    for one in range(5):
        covariance = (features[one] * scales[one] ** 2) @ features[one].T
        for t in range(8):
            before = covariance[:t, :t] + noise**2 * np.eye(t)
            wanted = covariance[t, :t] @ np.linalg.solve(before, value[one, :t]) if t else 0.0
            assert ours[one, t] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("kind", "dimensions"), [("sinusoid", None), ("linear", 3)])
def test_a_sequence_is_one_function_of_its_family(kind: str, dimensions: int | None) -> None:
    found = made(kind=kind, dimensions=dimensions, noise=1e-5, families=2, spread=1.0, sequences=1500)
    pairs, value = found.x["pairs"].double(), found.y["value"].double()
    wide = dimensions or 1
    assert pairs.shape == (3000, 11, 2 * wide + 2)
    x = pairs[..., :wide]
    assert torch.equal(pairs[:, 1:, wide : 2 * wide], x[:, :-1])
    assert torch.equal(pairs[:, 1:, 2 * wide], value[:, :-1])
    assert not pairs[:, 0, wide : 2 * wide + 1].any()
    assert (pairs[..., -1] == torch.tensor([1.0] + 10 * [0.0])).all()
    features = x if kind == "linear" else torch.cat([x.sin(), x.cos()], -1)
    weights = torch.linalg.lstsq(features, value.unsqueeze(-1)).solution
    assert float((features @ weights - value.unsqueeze(-1)).abs().max()) < 1e-3
    scales = weights.squeeze(-1).unflatten(0, (2, 1500)).square().mean(1).sqrt()
    logs = torch.log2(scales)  # 4^u: one family's u below 0, the other's above, feature by feature
    assert ((logs.sort(0).values[0] < 0.1) & (logs.sort(0).values[1] > -0.1)).all()
    assert float(logs.abs().max()) < 2.1
    # with hardly any noise the best predictor knows the function once it has seen a pair for each weight
    seen = features.shape[-1]
    misses = (found.y["bayes"].double() - value).square().mean(0).sqrt()
    assert float(misses[0]) > 0.5
    assert float(misses[-1]) < 1e-2 < float(misses[seen - 1])


def test_functions_are_the_same_for_the_same_seed_and_new_in_every_split() -> None:
    first, again, other = made(0), made(0), made(1)
    assert torch.equal(first.y["value"], again.y["value"])
    assert not torch.equal(first.y["value"], other.y["value"])
    whole = functions(Source(None, Path(), 0, Path()), sequences=100, test=100)
    assert not torch.equal(whole.train.y["value"], whole.test.y["value"])


def test_errors_are_told_by_the_number_of_pairs() -> None:
    found = plan(config.parse(SMALL))
    params, test = found.task.init(3), found.dataset.test
    told = found.task.summary(found.task.evaluate(params, test))
    outputs = found.task.outputs(params, test.x)  # type: ignore[attr-defined]
    value, bayes = test.y["value"].double(), test.y["bayes"].double()
    assert told["rmse"] == pytest.approx(float((outputs - value)[:, 6].square().mean().sqrt()))
    assert told["rmse_after_1"] == pytest.approx(float((outputs - value)[:, 1].square().mean().sqrt()))
    assert told["bayes_rmse_after_5"] == pytest.approx(float((bayes - value)[:, 5].square().mean().sqrt()))
    assert told["zero_rmse"] == pytest.approx(float(value[:, 6].square().mean().sqrt()))
    assert told["loss"] == pytest.approx(float((outputs - value).square().mean()))
    assert "rmse_after_10" not in told
    (table,) = found.task.exhibit(params, test).values()  # type: ignore[attr-defined]
    last = table.splitlines()[-1].split()
    assert [float(word) for word in last] == pytest.approx(
        [6, told["rmse"], told["bayes_rmse"], told["zero_rmse"]], abs=1e-4
    )


def test_an_answer_sees_nothing_that_comes_later() -> None:
    found = plan(config.parse(SMALL))
    params, x = found.task.init(0), found.dataset.test.x["pairs"].clone()
    before = found.task.outputs(params, {"pairs": x})  # type: ignore[attr-defined]
    x[:, 4:] += 1
    after = found.task.outputs(params, {"pairs": x})  # type: ignore[attr-defined]
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.answers=last"], ["an answer at each of 7 steps", 'answers = "every"']),
        (["data.dimensions=2"], ["dimensions is set", "Remove it"]),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises((ConfigError, DataError)) as error:
        plan(config.parse(SMALL, overrides))
    for word in words:
        assert word in str(error.value)


def test_it_wants_sequences_of_pairs(small: str) -> None:
    with pytest.raises(ConfigError, match=r'Take \[data\] name = "functions"'):
        plan(config.parse(small, ["task.name=in_context"]))
