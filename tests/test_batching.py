"""One pass over a shard: every example once, padded, in the same batches however they are asked for."""

from pathlib import Path

import pytest
import torch

from fedjourney import config
from fedjourney.batching import Batch, apart, first, minibatches
from fedjourney.data import Examples
from fedjourney.plan import plan
from fedjourney.seeds import permutation

CONFIGS = Path(__file__).parents[1] / "configs"


def examples(count: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    x = {"image": torch.arange(count * 6.0).view(count, 2, 3), "more": torch.arange(count) * 1.0}
    return x, {"label": torch.arange(count)}


def same(one: Batch, other: Batch) -> bool:
    pairs = [(one.mask, other.mask), (one.key, other.key)]
    pairs += [(part[n], theirs[n]) for part, theirs in ((one.x, other.x), (one.y, other.y)) for n in part]
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("count", [1, 9, 10, 11, 20, 21, 170, 331])
def test_a_pass_has_every_example_once_in_a_seeded_order(count: int) -> None:
    batches = list(minibatches(*examples(count), 10, seed=5))
    assert len(batches) == -(-count // 10)
    assert all(batch.mask.shape == (10,) and batch.key.shape == () for batch in batches)
    assert len({int(batch.key) for batch in batches}) == len(batches)
    rows = torch.cat([batch.y["label"][batch.mask > 0] for batch in batches])
    assert rows.tolist() == permutation(5, count).tolist()
    seen = torch.cat([batch.x["image"][batch.mask > 0] for batch in batches])
    assert torch.equal(seen, examples(count)[0]["image"][rows])


@pytest.mark.parametrize("count", [7, 20, 331])
@pytest.mark.parametrize("most", [0, 1, 2, 30])
def test_batches_are_the_same_one_by_one_stacked_or_the_first_alone(count: int, most: int) -> None:
    taken = minibatches(*examples(count), 10, 5, most)
    whole, batches = list(minibatches(*examples(count), 10, 5)), list(taken)
    assert len(batches) == min(most or len(whole), len(whole))
    stacked = [batch for stack in taken.stacks() for batch in apart(stack)]
    assert len(stacked) == len(batches)
    for one, other, third in zip(batches, stacked, whole, strict=False):
        assert same(one, other)
        assert same(one, third)
    assert same(first(taken), batches[0])
    assert same(first(iter(batches)), batches[0])


def test_examples_lie_one_behind_the_other_whatever_strides_they_came_with() -> None:
    one = torch.arange(24.0).view(6, 2, 2).unsqueeze(1).as_strided((6, 1, 2, 2), (4, 1, 2, 1))
    assert one.is_contiguous()  # so it counts, with the stride of channels that lie last
    laid = Examples({"image": one}, {"label": torch.arange(12).view(6, 2)[:, 0]}).laid_out()
    assert laid.x["image"].stride() == (4, 4, 2, 1)
    assert laid.y["label"].stride() == (1,)
    assert torch.equal(laid.x["image"], one)
    assert laid.y["label"].tolist() == list(range(0, 12, 2))


def test_a_plan_lays_its_data_out() -> None:
    built = plan(config.load(CONFIGS / "digits-resnet8.toml"))
    for split in (built.dataset.train, built.dataset.validation, built.dataset.test):
        for tensor in (*split.x.values(), *split.y.values()):
            assert tensor.stride() == torch.empty(tensor.shape).stride()
