"""Streams of words: Philox's own, whoever drew before and on whatever thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fedjourney.seeds import uniforms, words


def test_words_are_those_of_a_new_generator_whatever_was_drawn_before() -> None:
    for seed in (0, 1, 7, 2**63 - 1, 2**64, 2**128 - 1):
        for count in (1, 3, 4, 5, 1000):  # a block of Philox-4x64 has four words
            assert np.array_equal(words(seed, count), np.random.Philox(key=seed).random_raw(count))


def test_threads_do_not_share_a_stream() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: words(seed % 5, 20_000), range(40)))
    for seed, drawn in enumerate(found):
        assert np.array_equal(drawn, np.random.Philox(key=seed % 5).random_raw(20_000))


def test_uniforms_are_the_upper_bits_and_never_one() -> None:
    drawn = uniforms(3, 1000)
    assert drawn.dtype == np.float64
    assert [int(u * 2**53) for u in drawn[:9]] == [int(word) >> 11 for word in words(3, 9)]
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
