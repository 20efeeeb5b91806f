"""Bernoulli bandits: the Bayes optimum of a trial, computed exactly, and the rules that are known.

An arm k of K pays 1 with a chance of its own, drawn from Beta(a, b), and 0 otherwise; a trial is T pulls. Of an arm
only its successes s and failures f matter: its chance is then distributed as Beta(a + s, b + f). n trials go side by
side; their rewards are tables [n, T, K] of what each arm would pay at each pull, of which a pull shows one.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.special import betaincinv

MOST_STATES = 3_000_000
"""Counts beyond which the optimum is not computed: some six seconds, and 1.2 GB."""

Choose: TypeAlias = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Maps successes and failures [n, K] and the number of pulls so far to arms [n]."""


def count_of_states(arms: int, pulls: int) -> int:
    """Return how many counts can stand before a pull, those that differ by the arms' order taken for one.

    Where there are more than `MOST_STATES`, a number is returned that is above it and at most theirs.

    >>> count_of_states(1, 3), count_of_states(2, 3)  # one arm: 1 + 2 + 3; two: 1 + 2 + (3 + 3)
    (6, 9)
    """
    few = min(arms, 3)
    least = math.comb(pulls - 1 + 2 * few, 2 * few) // math.factorial(few)  # orders of fewer arms, each taken for one
    if arms == 1 or least > MOST_STATES:
        return least
    pulled = min(arms, pulls - 1)
    ways = [[0] * pulls for _ in range(pulled + 1)]  # of a number of arms to have been pulled so many times in all
    ways[0][0] = 1
    for each in range(1, pulls):  # an arm pulled that often has 1 + each counts; some arms are pulled that often
        for taken in range(pulled, 0, -1):
            for total in range(pulls - 1, each - 1, -1):
                ways[taken][total] += sum(
                    ways[taken - alike][total - alike * each] * math.comb(each + alike, alike)
                    for alike in range(1, min(taken, total // each) + 1)
                )
    return sum(map(sum, ways))


def most_states(arms: int, pulls: int) -> int:
    """Return how many counts the optimum is computed for: fewer where a row of them has no place in one number."""
    pulled, kinds = min(arms, pulls), (pulls + 1) * (pulls + 2) // 2
    return MOST_STATES if _in_one_number(pulled, kinds) else MOST_STATES // 30


def _in_one_number(arms: int, kinds: int) -> bool:
    """Whether so many numbers below `kinds` fit 63 bits."""
    return kinds**arms < 2**63


def bayes_optimum(arms: int, pulls: int, priors: np.ndarray) -> np.ndarray:
    """Return the most that can be expected of a trial [C], exactly, by dynamic programming over all counts.

    V_T = 0, V_t(counts) = max_k p_k (1 + V_{t+1}(counts with k's success)) + (1 - p_k) V_{t+1}(… failure), where
    p_k = (a + s_k) / (a + b + s_k + f_k). Arms are alike before they are pulled, so counts are kept sorted.

    Args:
        arms: K.
        pulls: T.
        priors: a and b of each case [C, 2].

    Reference: Bellman 1956, A problem in the sequential design of experiments; Gittins, Glazebrook and Weber 2011,
    Multi-armed Bandit Allocation Indices, chapter 1.

    >>> bayes_optimum(2, 2, np.array([[1.0, 1.0]])).round(6).tolist()  # 1/2, then 1/2 (2/3) + 1/2 (1/2)
    [1.083333]
    """
    arms = min(arms, pulls)  # more cannot be pulled, and before it is pulled one is like the other
    kinds = [(s, f) for s in range(pulls + 1) for f in range(pulls + 1 - s)]  # of one arm's counts
    place = {kind: number for number, kind in enumerate(kinds)}
    after = np.array([[place.get((s + 1, f), 0), place.get((s, f + 1), 0)] for s, f in kinds])
    levels: list[np.ndarray] = [np.full((1, arms), place[0, 0])]
    links: list[np.ndarray] = []
    for _ in range(pulls - 1):
        rows = np.repeat(levels[-1][:, None, None], 2 * arms, axis=1).reshape(-1, arms, 2, arms)  # [S, K, 2, K]
        for k in range(arms):
            rows[:, k, :, k] = after[rows[:, k, 0, k]]
        found, where = _unlike(np.sort(rows, axis=-1), len(kinds))
        levels.append(found)
        links.append(where.astype(np.int32))
    counts, best = np.array(kinds, dtype=np.float64), []
    for a, b in priors:
        chance = (a + counts[:, 0]) / (a + b + counts.sum(1))
        value = chance[levels[-1]].max(1)
        for rows, link in zip(levels[-2::-1], links[::-1], strict=True):
            paid = chance[rows]
            value = (paid * (1 + value[link[..., 0]]) + (1 - paid) * value[link[..., 1]]).max(1)
        best.append(float(value[0]))
    return np.array(best)


def _unlike(rows: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the unlike rows [S, K] of numbers below `kinds` [..., K], and the place [...] of each among them."""
    arms = rows.shape[-1]
    if _in_one_number(arms, kinds):  # many times faster
        radix = np.array([kinds**k for k in range(arms)])
        found, where = np.unique(rows @ radix, return_inverse=True)
        return found[:, None] // radix % kinds, where.reshape(rows.shape[:-1])
    found, where = np.unique(rows.reshape(-1, arms), axis=0, return_inverse=True)
    return found, where.reshape(rows.shape[:-1])


def play(choose: Choose, rewards: np.ndarray) -> np.ndarray:
    """Return what a rule earns in each trial [n] of tables [n, T, K]."""
    count, pulls, arms = rewards.shape
    counts, every = np.zeros((2, count, arms)), np.arange(count)
    for pull in range(pulls):
        arm = choose(counts[0], counts[1], pull)
        paid = rewards[every, pull, arm]
        counts[0, every, arm] += paid
        counts[1, every, arm] += 1 - paid
    return counts[0].sum(-1)


def greedy(priors: np.ndarray) -> Choose:
    """Return the rule that pulls the arm with the highest posterior mean, of equals the least pulled; priors [n, 2]."""
    a, b = priors[:, :1], priors[:, 1:]

    def choose(won: np.ndarray, lost: np.ndarray, pull: int) -> np.ndarray:
        pulled = won + lost
        mean = (a + won) / (a + b + pulled)
        return np.where(mean >= mean.max(-1, keepdims=True) - 1e-12, pulled, np.inf).argmin(-1)

    return choose


def upper_confidence(won: np.ndarray, lost: np.ndarray, pull: int) -> np.ndarray:
    """Pull each arm once, then that with the largest mean + √(2 ln t / n_k) after t pulls, n_k of them of arm k.

    Reference: Auer, Cesa-Bianchi and Fischer 2002, Finite-time Analysis of the Multiarmed Bandit Problem (UCB1).
    """
    pulled = won + lost
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = won / pulled + np.sqrt(2 * np.log(max(pull, 1)) / pulled)
    return np.where(pulled == 0, np.inf, bound).argmax(-1)


def thompson(priors: np.ndarray, draws: np.ndarray) -> Choose:
    """Return the rule that draws each arm's chance from its posterior and pulls the arm whose draw is largest.

    Args:
        priors: a and b of each trial [n, 2].
        draws: numbers in (0, 1) for every pull and arm [n, T, K].

    Reference: Thompson 1933, On the likelihood that one unknown probability exceeds another in view of the evidence of
    two samples.
    """
    a, b = priors[:, :1], priors[:, 1:]
    return lambda won, lost, pull: betaincinv(a + won, b + lost, draws[:, pull]).argmax(-1)
