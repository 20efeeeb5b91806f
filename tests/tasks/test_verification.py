"""Verification and regression against references computed in another way."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from fedjourney.data import Examples
from fedjourney.tasks import Signature
from fedjourney.tasks._scatter import scattered
from fedjourney.tasks.regression import regression
from fedjourney.tasks.verification import BINS, characteristic, verification

SHEETS = Signature({"images": (2, 3, 1, 4, 4)}, {"classes": (2, 3)}, 5)


def built(**options: object):  # type: ignore[no-untyped-def]
    def make(signature: Signature) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(signature.features, signature.classes))

    return verification(make, SHEETS, torch.float64, embedding=3, **options)  # type: ignore[arg-type]


def sheets(count: int = 4) -> Examples:
    chance = np.random.default_rng(0)
    classes = np.array([chance.permutation(5)[:2] for _ in range(count)])
    classes[0] = 3  # two groups of one class may meet on a sheet
    images = chance.normal(size=(count, 2, 3, 1, 4, 4))
    return Examples(
        {"images": torch.from_numpy(images)}, {"classes": torch.from_numpy(classes).unsqueeze(2).repeat(1, 1, 3)}
    )


@pytest.mark.parametrize(("loss", "margin"), [("contrastive", 1.2), ("triplet", 0.4)])
def test_losses_are_the_equations_pair_by_pair(loss: str, margin: float) -> None:
    task, some = built(loss=loss, margin=margin), sheets()
    params = task.init(0)
    ours = task.losses(task.outputs(params, some.x), some.y)
    for sheet, (images, classes) in enumerate(zip(some.x["images"], some.y["classes"], strict=True)):
        flat = images.flatten(0, 1).flatten(1) @ params["1.weight"].T + params["1.bias"]
        points, kinds = (flat / flat.norm(dim=1, keepdim=True)).numpy(), classes.flatten().tolist()
        places = range(6)
        near = [np.sum((points[i] - points[j]) ** 2) for i in places for j in places if i != j and kinds[i] == kinds[j]]
        far = [
            max(0, margin - np.linalg.norm(points[i] - points[j])) ** 2
            for i in places for j in places if kinds[i] != kinds[j]
        ]  # fmt: skip
        expected = np.mean(near) + (np.mean(far) if far else 0)
        if loss == "triplet":
            gaps = [
                max(0, np.sum((points[a] - points[p]) ** 2) - np.sum((points[a] - points[n]) ** 2) + margin)
                for a in places for p in places for n in places
                if a != p and kinds[a] == kinds[p] and kinds[a] != kinds[n]
            ]  # fmt: skip
            expected = np.mean(gaps) if gaps else 0.0
        assert float(ours[sheet]) == pytest.approx(expected, abs=1e-9)


def test_auc_and_equal_error_rate_are_scikit_learns() -> None:
    chance = np.random.default_rng(1)
    distances = [np.clip(chance.normal(mean, 0.3, count), 0, 1.999) for mean, count in ((0.6, 700), (1.1, 3000))]
    same, different = (
        torch.from_numpy(np.bincount((d * BINS / 2).astype(int), minlength=BINS)).double() for d in distances
    )
    auc, rate, threshold = characteristic(same, different)
    truth = np.repeat([1, 0], [700, 3000])
    binned = np.concatenate([(d * BINS / 2).astype(int) for d in distances])
    assert auc == pytest.approx(roc_auc_score(truth, -binned), abs=1e-12)
    false, true, _ = roc_curve(truth, -np.concatenate(distances))
    place = np.argmin(np.abs(1 - true - false))
    assert rate == pytest.approx((1 - true + false)[place] / 2, abs=0.002)
    assert np.mean(distances[0] >= threshold) == pytest.approx(rate, abs=0.003)
    assert characteristic(same, same)[0] == pytest.approx(0.5)
    apart = torch.zeros(BINS).double()
    apart[3] = 1
    assert characteristic(apart, apart.flip(0))[:2] == pytest.approx((1.0, 0.0))


def test_groups_meet_on_new_sheets_and_none_is_lost() -> None:
    task, some = built(), sheets(5)
    seen = [list(task.batches({}, some, seed)) for seed in (1, 2)]
    for batches in seen:
        images = torch.cat([batch.x["images"][batch.mask.bool()] for batch in batches])
        assert sorted(images.flatten(0, 1).sum((1, 2, 3, 4)).tolist()) == pytest.approx(
            sorted(some.x["images"].flatten(0, 1).sum((1, 2, 3, 4)).tolist())
        )
    assert not torch.equal(seen[0][0].x["images"], seen[1][0].x["images"])


def test_rmse_is_numpys_beside_that_of_the_mean() -> None:
    chance = np.random.default_rng(2)
    x, y = chance.normal(size=(40, 3)), chance.normal(5, 20, size=(40, 2))

    def make(signature: Signature) -> nn.Module:
        return nn.Linear(3, signature.classes)

    task = regression(make, Signature({"x": (3,)}, {"y": (2,)}, 0), torch.float64, scale=20.0, unit="kelvin")
    params = task.init(0)
    found = task.summary(task.evaluate(params, Examples({"x": torch.from_numpy(x)}, {"y": torch.from_numpy(y)})))
    told = 20 * (x @ params["weight"].numpy().T + params["bias"].numpy())
    assert found["rmse_kelvin"] == pytest.approx(np.sqrt(np.mean((told - y) ** 2)))
    assert found["constant_rmse_kelvin"] == pytest.approx(np.sqrt(np.mean((y - y.mean(0)) ** 2)))
    assert next(iter(found)) == "rmse_kelvin"


def test_a_network_that_gives_nan_says_nothing_of_any_pair() -> None:
    task, some = built(loss="triplet", margin=0.4), sheets()
    params = {name: tensor * torch.nan for name, tensor in task.init(0).items()}
    told = task.summary(task.evaluate(params, some))
    assert math.isnan(told["auc"])
    assert math.isnan(told["equal_error_rate"])
    assert 0 <= told["pixels_auc"] <= 1
    assert task.exhibit(params, some) == {}


def test_predictions_beyond_the_picture_lie_on_its_edge_and_nan_nowhere() -> None:
    target = np.array([0.0, 1.0, 2.0, 3.0])
    (picture,) = scattered(target, np.array([0.0, np.inf, -1e300, np.nan])).values()
    blue = np.argwhere((picture == (0.16, 0.47, 0.84)).all(-1)).tolist()
    low, high = round(160 * (0.5 - 1 / 2.2)), 160
    assert sorted(blue) == sorted(
        [[160 - low, low], [0, round(160 * (0.5 - 0.5 / 3.3))], [high, round(160 * (0.5 + 0.5 / 3.3))]]
    )
    assert scattered(target, np.full(4, np.nan)) == {}
