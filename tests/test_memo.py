"""What is remembered never changes a result, and never grows without bound."""

import torch

from fedjourney import plugins
from fedjourney.memo import Memo
from fedjourney.seeds import seed_for
from fedjourney.strategies import Setting
from fedjourney.strategies._evolution import direction
from fedjourney.strategies._replay import Replayed, begun_with


def test_values_are_made_once_and_the_longest_unused_is_forgotten_first() -> None:
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes(40)

    memo = Memo[bytes](100, len)
    for number in (1, 2, 1, 3, 1, 2):  # the third pushes 2 out, which was unused for longer than 1
        memo.get(number, lambda number=number: make(number))  # type: ignore[misc]
    assert made == [1, 2, 3, 2]


def test_what_is_larger_than_all_of_it_is_not_kept_and_pushes_nothing_out() -> None:
    memo = Memo[bytes](100, len)
    memo.get("small", lambda: bytes(60))
    for _ in range(2):
        assert memo.get("large", lambda: bytes(101)) == bytes(101)
    assert memo.get("small", lambda: bytes(1)) == bytes(60)


def test_a_direction_is_its_own_for_every_seed_kind_size_and_type() -> None:
    vectors = [torch.zeros(count, dtype=dtype) for count in (5, 6) for dtype in (torch.float32, torch.float64)]
    found = [direction(kind, seed, v) for kind in ("rademacher", "gaussian") for seed in (1, 2) for v in vectors]  # type: ignore[arg-type]
    again = [direction(kind, seed, v) for kind in ("rademacher", "gaussian") for seed in (1, 2) for v in vectors]  # type: ignore[arg-type]
    for first, second, vector in zip(found, again, vectors * 4, strict=True):
        assert torch.equal(first, second)
        assert (first.shape, first.dtype) == (vector.shape, vector.dtype)
    assert not torch.equal(found[0], found[4])  # another seed
    assert not torch.equal(found[0], found[8])  # another kind


def test_the_same_words_of_another_type_name_another_seed() -> None:
    assert seed_for(0, "round", 1) != seed_for(0, "round", "1")
    assert seed_for(1, "round") != seed_for(True, "round")


def test_a_step_that_many_clients_replay_is_made_once_and_told_apart_by_every_bit() -> None:
    table = plugins.resolve("strategy", {"name": "open_es", "population": 8, "downlink": "fitness"})
    strategy: Replayed = plugins.build("strategy", table, Setting(0, 4, 4))
    calls, step = [], strategy.step
    strategy.step = lambda *told: (calls.append(told), step(*told))[1]  # type: ignore[func-returns-value, method-assign]
    params = {"w": torch.ones(2, 3), "b": torch.zeros(2)}
    news = {"weights": torch.arange(4.0)}
    first = strategy._stepped(1, params, {}, news, begun_with(params, {}))
    first[0]["w"] += 1  # what one client does to its model is nothing to another
    second = strategy._stepped(1, params, {}, news, begun_with(params, {}))
    assert len(calls) == 1
    assert torch.equal(second[0]["w"], step(1, params, {}, news)[0]["w"])
    others = [
        (2, params, {}, news),
        (1, {"b": params["b"], "w": params["w"]}, {}, news),  # the order is that of the noise
        (1, {"w": params["w"], "b": -params["b"]}, {}, news),  # minus zero
        (1, params, {"m": torch.zeros(8), "v": torch.ones(8), "step": torch.ones(1, dtype=torch.int64)}, news),
        (1, params, {}, {"weights": torch.arange(4.0) + 1}),
    ]
    for told in others:
        strategy._stepped(*told, begun_with(*told[1:3]))
    assert len(calls) == 1 + len(others)
