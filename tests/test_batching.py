"""One pass over a shard: every example once, padded, in the same batches however they are asked for."""

import pytest
import torch

from fedjourney.batching import Batch, apart, first, minibatches
from fedjourney.seeds import permutation


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
