"""Verification: do two images show the same thing?"""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch.nn import functional as F

from fedjourney.batching import Batch, minibatches
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import Prediction
from fedjourney.tensors import Tensors

BINS = 1000  # of distances between 0 and 2
SHOWN, ROWS = 40, 6  # sheets that the exhibit is chosen from, pairs of a kind that it shows


class _Verification(Prediction):
    """Distances between unit embeddings of the images of a sheet [groups, images]; small for the same class."""

    loss_name: str = "contrastive"
    margin: float = 1.0

    def outputs(self, params: Tensors, x: Tensors, key: torch.Tensor | None = None) -> torch.Tensor:
        """Return unit embeddings [B, groups * images, width]."""
        sheets = next(iter(x.values())).to(self.dtype)
        flat = super().outputs(params, {"image": sheets.flatten(0, 2)}, key)
        return F.normalize(flat, dim=-1).unflatten(0, (sheets.shape[0], sheets.shape[1] * sheets.shape[2]))

    def _pairs(self, outputs: torch.Tensor, y: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (squared distances, whether the classes are the same) [B, n, n]."""
        classes = next(iter(y.values())).flatten(1)
        squared = (2 - 2 * outputs @ outputs.transpose(1, 2)).clamp(min=0)
        return squared, classes[:, :, None] == classes[:, None, :]

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return the loss of each sheet [B]: over all its pairs, or over all its triplets."""
        squared, same = self._pairs(outputs, y)
        other = ~torch.eye(same.shape[1], dtype=torch.bool, device=same.device)
        if self.loss_name == "contrastive":
            short = (self.margin - (squared + 1e-12).sqrt()).clamp(min=0)
            return _mean(squared, same & other) + _mean(short.square(), ~same)
        gaps = (squared[:, :, :, None] - squared[:, :, None, :] + self.margin).clamp(min=0)
        triplets = (same & other)[:, :, :, None] & ~same[:, :, None, :]
        return _mean(gaps.flatten(2), triplets.flatten(2))

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass; groups meet on new sheets, so that over the passes all classes of a client meet."""
        mixed = []
        for part in (shard.x, shard.y):
            (name, tensor), *_ = part.items()
            order = torch.from_numpy(permutation(seed_for(seed, "mixed"), tensor.shape[0] * tensor.shape[1]))
            mixed.append({name: tensor.flatten(0, 1)[order.to(tensor.device)].view(tensor.shape)})
        return minibatches(mixed[0], mixed[1], self.batch_size, seed)

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return pairs by distance, `same` and `different` [BINS], also for bare pixels, and `loss`, `examples`."""
        sums = super().evaluate(params, shard)
        pixels = next(iter(shard.x.values())).to(self.dtype).flatten(3).flatten(1, 2)
        squared, same = self._pairs(F.normalize(pixels, dim=-1), shard.y)
        return sums | {f"pixels_{name}": counts for name, counts in _histograms(squared, same).items()}

    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return the sums of one block."""
        squared, same = self._pairs(outputs, y)
        return _histograms(squared, same) | {
            "loss": self.losses(outputs, y).double().sum(),
            "examples": torch.tensor(float(len(outputs)), dtype=torch.float64),
        }

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `auc`, `equal_error_rate`, `pixels_auc` (the floor), `loss`; without pairs of both kinds the last."""
        count, same, different = float(sums["examples"]), sums["same"], sums["different"]
        if count == 0:
            return {}
        found = {"loss": float(sums["loss"]) / count}
        if float(same.sum()) == 0 or float(different.sum()) == 0:
            return found
        auc, rate, _ = characteristic(same, different)
        floor, _, _ = characteristic(sums["pixels_same"], sums["pixels_different"])
        return {"auc": auc, "equal_error_rate": rate, "pixels_auc": floor, **found}

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return pairs it gets right and wrong, with the distance that parts them at the equal error rate."""
        part = examples.cut(slice(0, SHOWN))
        if len(part) == 0:
            return {}
        with torch.no_grad():
            squared, same = self._pairs(self.outputs(params, part.x), part.y)
            sums = self.evaluate(params, examples)
        threshold = characteristic(sums["same"], sums["different"])[2]
        if math.isnan(threshold):
            return {}
        distance, upper = squared.sqrt(), torch.ones_like(same).triu(1)
        images = next(iter(part.x.values())).flatten(1, 2)
        shown: dict[str, str | np.ndarray] = {}
        for words, alike, near in (
            ("the same, and taken for the same", True, True),
            ("the same, and taken for different", True, False),
            ("different, and taken for different", False, False),
            ("different, and taken for the same", False, True),
        ):
            found = ((same == alike) & upper & ((distance < threshold) == near)).nonzero()
            chosen = found[:: max(1, len(found) // ROWS)][:ROWS]
            if len(chosen):
                rows = [np.concatenate([_grey(images[s, i]), _grey(images[s, j])], 0) for s, i, j in chosen.tolist()]
                shown[f"Pairs that are {words} (one above the other)"] = np.concatenate(rows, 1)
        shown["Threshold"] = (
            f"Taken for the same below a distance of {threshold:.3f}, where both errors are as frequent."
        )
        return shown


def _histograms(squared: torch.Tensor, same: torch.Tensor) -> Tensors:
    """Return pairs by distance [BINS], from squared distances [B, n, n], each pair once; NaN where one has none."""
    upper = torch.ones_like(same).triu(1)
    if bool(squared.isnan().any()):
        nothing = torch.full((BINS,), torch.nan, dtype=torch.float64, device=squared.device)
        return {"same": nothing, "different": nothing}
    places = (squared.double().sqrt() * (BINS / 2)).long().clamp(max=BINS - 1)
    return {
        "same": torch.bincount(places[same & upper], minlength=BINS).double(),
        "different": torch.bincount(places[~same & upper], minlength=BINS).double(),
    }


def characteristic(same: torch.Tensor, different: torch.Tensor) -> tuple[float, float, float]:
    """Return (area under the ROC curve, equal error rate, distance of the latter) from histograms of distances [bins].

    The area is the chance that a pair of the same class is closer than one of different classes, ties counting half.
    The equal error rate is where the false rejections' share falls to that of the false acceptances, between two bins
    on a straight line. All are NaN where a histogram holds NaN.
    """
    if bool((same + different).isnan().any()):
        return math.nan, math.nan, math.nan
    zero = same.new_zeros(1)
    accepted = torch.cat([zero, (same / same.sum()).cumsum(0)])  # true acceptances below each edge, [bins + 1]
    wrongly = torch.cat([zero, (different / different.sum()).cumsum(0)])
    auc = float(((accepted[1:] + accepted[:-1]) / 2 * wrongly.diff()).sum())
    gap = (1 - accepted) - wrongly  # from 1 down to -1
    after = int((gap <= 0).nonzero()[0])
    part = float(gap[after - 1] / (gap[after - 1] - gap[after]))
    rate = float(wrongly[after - 1]) + part * float(wrongly[after] - wrongly[after - 1])
    return auc, rate, (after - 1 + part) * 2 / len(same)


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Return each sheet's mean over what is chosen [B], 0 where nothing is."""
    weight = chosen.to(values.dtype)
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)


def _grey(image: torch.Tensor) -> np.ndarray:
    """Return an image with a margin, dark on white."""
    return np.pad(1 - np.clip(image.double().mean(0).numpy(), 0, 1), 1, constant_values=0.8)


def verification(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 4,
    embedding: Annotated[int, Ge(2), Le(65_536)] = 32,
    loss: Literal["contrastive", "triplet"] = "contrastive",
    margin: Annotated[float, Gt(0)] = 1.0,
) -> Task:
    """Siamese network: are two images of the same class? AUC and equal error rate, on classes never seen in training.

    One network embeds both images on the unit sphere. Contrastive loss: the mean of d² over pairs of the same class
    plus that of max(0, margin - d)² over pairs of different classes. Triplet loss: the mean of
    max(0, d²(anchor, same) - d²(anchor, different) + margin) over all triplets of a sheet. Beside stands the AUC of the
    angle between the images' bare pixels, which a network has to pass.

    Args:
        make_model: builds the model.
        signature: sheets of images [groups, images, channels, height, width], as of data `unseen_classes`.
        dtype: of parameters.
        batch_size: sheets per local step.
        embedding: numbers that an image becomes.
        loss: over pairs or over triplets.
        margin: distance (contrastive) or difference of squared distances (triplet) that is enough.

    References: Hadsell, Chopra and LeCun 2006, Dimensionality Reduction by Learning an Invariant Mapping, eq. 4;
    Schroff et al. 2015, FaceNet, https://arxiv.org/abs/1503.03832, eq. 3; all triplets of a batch as in Hermans et al.
    2017, https://arxiv.org/abs/1703.07737.
    """
    shape = next(iter(signature.inputs.values()))
    if len(shape) != 5:
        raise ConfigError(
            "[task] verification expects sheets of images [groups, images, channels, height, width], got examples of "
            f"shape {list(shape)}. Take [data] unseen_classes."
        )
    alone = replace(signature, inputs={"image": shape[2:]}, classes=embedding)
    task = _Verification(partial(make_model, alone), signature, batch_size, dtype)
    task.loss_name, task.margin = loss, margin
    return task
