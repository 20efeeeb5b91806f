"""Robust aggregation against formulas written out with numbers and loops."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from quadratic import flat, split
from scipy import stats

from fedjourney import plugins
from fedjourney.errors import ConfigError
from fedjourney.strategies import Cohort, Rounds, Setting

ROBUST = {
    "median": {},
    "trimmed_mean": {"share": 0.2},
    "krum": {"byzantine": 2},
    "bulyan": {"byzantine": 2},
    "geometric_median": {},
    "centred_clipping": {"radius": 1.5, "iterations": 2},
    "norm_clipping": {"radius": 1.5},
}
ZERO = torch.zeros(5, dtype=torch.float64)


def built(name: str, cohort: int = 11, **options: Any) -> Rounds:
    table = plugins.resolve("strategy", {"name": name, **options})
    strategy: Rounds = plugins.build("strategy", table, Setting(0, 30, cohort))
    return strategy


def cloud(count: int = 11, seed: int = 0, bad: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 5, generator=draw, dtype=torch.float64)
    x[:bad] = 1e6
    return x


def step(strategy: Rounds, x: torch.Tensor, params: torch.Tensor = ZERO) -> torch.Tensor:
    rows = [{f"update/{name}": part for name, part in split(row).items()} for row in x]
    count = list(range(len(x)))
    told = strategy.tell(1, split(params), Cohort(count, count, {"num-examples": [1.0] * len(x)}, rows=rows))
    assert isinstance(told, dict)
    return flat(told)


@pytest.mark.parametrize("name", ROBUST)
def test_the_order_of_replies_does_not_matter(name: str) -> None:
    x = cloud()
    reference = step(built(name, **ROBUST[name]), x)
    for seed in range(3):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(step(built(name, **ROBUST[name]), x[order]), reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ROBUST)
def test_two_bad_clients_of_eleven_do_not_carry_it_away(name: str) -> None:
    assert float(step(built(name, **ROBUST[name]), cloud(bad=2)).norm()) < 3
    assert float(cloud(bad=2).mean(0).norm()) > 1e5


@pytest.mark.parametrize("name", ROBUST)
def test_replies_that_agree_are_the_answer(name: str) -> None:
    x = torch.full((11, 5), 0.25, dtype=torch.float64)
    torch.testing.assert_close(step(built(name, **ROBUST[name]), x), ZERO + 0.25, rtol=0, atol=1e-12)


def by_hand_krum(x: list[list[float]], f: int) -> list[int]:
    """Return indices by score, smallest first; ties by the sum of all distances."""
    nearest, keys = max(1, len(x) - f - 2), []
    for i, a in enumerate(x):
        away = sorted(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) for j, b in enumerate(x) if j != i)
        keys.append((math.fsum(away[:nearest]), math.fsum(away), i))
    return [i for *_, i in sorted(keys)]


@pytest.mark.parametrize(("f", "select", "seed"), list(itertools.product([0, 1, 3], [1, 4], [0, 1])))
def test_krum_is_the_written_out_formula(f: int, select: int, seed: int) -> None:
    x = cloud(seed=seed)
    best = by_hand_krum(x.tolist(), f)[:select]
    torch.testing.assert_close(step(built("krum", byzantine=f, select=select), x), x[best].mean(0), rtol=0, atol=1e-12)


def test_multi_krum_over_everybody_is_the_mean() -> None:
    x = cloud()
    torch.testing.assert_close(step(built("krum", byzantine=0, select=11), x), x.mean(0), rtol=0, atol=1e-12)


def test_krum_measures_updates_not_weights() -> None:
    # weights of norm 400 and updates of norm 0.01: |x|² + |y|² - 2xy in float32 would be noise
    x = (cloud() * 0.01).float()
    rows = [{f"update/{n}": part for n, part in split(row).items()} for row in x]
    strategy = built("krum", byzantine=2)
    params = split(torch.full((5,), 180.0))
    told = strategy.tell(1, params, Cohort(list(range(11)), list(range(11)), rows=rows))
    best = by_hand_krum(x.double().tolist(), 2)[0]
    assert torch.equal(flat(told), 180.0 + x[best])  # type: ignore[arg-type]


@pytest.mark.parametrize(("f", "seed"), list(itertools.product([1, 2], [0, 1, 2])))
def test_bulyan_is_the_written_out_formula(f: int, seed: int) -> None:
    x = cloud(seed=seed)
    pool, chosen = list(range(len(x))), []
    while len(chosen) < len(x) - 2 * f:
        best = pool[by_hand_krum([x[i].tolist() for i in pool], f)[0]]
        chosen.append(best)
        pool.remove(best)
    keep, expected = len(chosen) - 2 * f, []
    for column in x[chosen].T.tolist():
        middle = float(np.median(column))
        expected.append(sum(sorted(column, key=lambda value: abs(value - middle))[:keep]) / keep)
    np.testing.assert_allclose(step(built("bulyan", byzantine=f), x), expected, rtol=0, atol=1e-12)


def test_bulyan_without_bad_clients_is_the_mean() -> None:
    x = cloud()
    torch.testing.assert_close(step(built("bulyan", byzantine=0), x), x.mean(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [7, 10, 11])
def test_trimmed_mean_is_scipys(count: int) -> None:
    x = cloud(count)
    expected = torch.from_numpy(stats.trim_mean(x.numpy(), 0.2, axis=0))
    torch.testing.assert_close(step(built("trimmed_mean", count, share=0.2), x), expected, rtol=0, atol=1e-12)


def test_a_share_is_not_rounded_down_by_binary_fractions() -> None:
    x = cloud(100)
    ordered = x.sort(dim=0).values
    assert int(0.29 * 100) == 28  # what is avoided
    torch.testing.assert_close(step(built("trimmed_mean", 100, share=0.29), x), ordered[29:71].mean(0))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_geometric_median_is_where_unit_pulls_cancel(weighted: bool) -> None:
    x, sizes = cloud(), [float(n) for n in range(1, 12)]
    strategy = built("geometric_median", iterations=300, weighted=weighted)
    rows = [{f"update/{n}": part for n, part in split(row).items()} for row in x]
    told = strategy.tell(1, split(ZERO), Cohort(list(range(11)), list(range(11)), {"num-examples": sizes}, rows=rows))
    away = x - flat(told)  # type: ignore[arg-type]
    pulls = away / away.norm(dim=1, keepdim=True)
    weights = torch.tensor(sizes if weighted else [1.0] * 11, dtype=torch.float64)
    assert float((weights[:, None] * pulls).sum(0).norm()) < 1e-8


def test_clipping_with_a_large_radius_is_the_mean() -> None:
    x = cloud()
    for name in ("norm_clipping", "centred_clipping"):
        torch.testing.assert_close(step(built(name, radius=1e9), x), x.mean(0), rtol=0, atol=1e-12)


def test_clipping_is_the_written_out_formula() -> None:
    x, tau, strategy = cloud(), 0.8, built("centred_clipping", radius=0.8)
    centre = np.zeros(5)
    for round_ in range(3):
        rows = cloud(seed=round_).numpy()
        centre = centre + sum((row - centre) * min(1, tau / np.linalg.norm(row - centre)) for row in rows) / len(rows)
        got = step(strategy, torch.from_numpy(rows))
        np.testing.assert_allclose(got, centre, rtol=0, atol=1e-12)
    clipped = sum(row * min(1, tau / np.linalg.norm(row)) for row in x.numpy()) / len(x)
    np.testing.assert_allclose(step(built("norm_clipping", radius=tau), x), clipped, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "cohort", "options", "inequality"),
    [
        ("krum", 6, {"byzantine": 2}, "6 < 2 x 2 + 3 = 7"),
        ("krum", 7, {"byzantine": 2, "select": 6}, "6 > 7 - 2 = 5"),
        ("bulyan", 10, {"byzantine": 2}, "10 < 4 x 2 + 3 = 11"),
        ("trimmed_mean", 10, {"share": 0.5}, "share < 0.5"),
        ("trimmed_mean", 4, {"share": 0.2}, "floor(0.2 x 4) = 0"),
    ],
)
def test_settings_that_cannot_hold_are_refused(
    name: str, cohort: int, options: dict[str, Any], inequality: str
) -> None:
    with pytest.raises(ConfigError) as error:
        built(name, cohort, **options)
    assert inequality in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "answers"),
    [("krum", {"byzantine": 2}, 6), ("bulyan", {"byzantine": 2}, 6), ("trimmed_mean", {"share": 0.2}, 4)],
)
def test_a_round_with_too_few_answers_keeps_its_parameters(name: str, options: dict[str, Any], answers: int) -> None:
    params = torch.ones(5, dtype=torch.float64)
    assert torch.equal(step(built(name, **options), cloud(answers), params), params)
    assert not torch.equal(step(built(name, **options), cloud(11), params), params)
