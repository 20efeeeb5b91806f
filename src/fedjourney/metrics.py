"""How a metric is read from its name: the one place that knows which is told first, how it is shown, what is better.

A task's `summary` puts its headline first; names end in their unit where they have one (`rmse_degrees`).
"""

import re
from collections.abc import Iterable, Mapping

SHARES = frozenset({"accuracy", "auc", "share", "rate"})
"""Words in the name of a share of 1, which is shown in per cent."""
LOWER = frozenset({"loss", "perplexity", "nll", "bits", "error", "rmse", "mse", "mae", "regret"})
"""Words in the name of a metric that is better when it is lower."""


def _words(metric: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", metric.lower()))


def is_share(metric: str) -> bool:
    """Whether a metric is a share of 1 and is shown in per cent.

    >>> is_share("accuracy"), is_share("personal/auc"), is_share("rmse_degrees")
    (True, True, False)
    """
    return bool(_words(metric) & SHARES)


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better.

    >>> lower_is_better("rmse_degrees"), lower_is_better("equal_error_rate"), lower_is_better("return")
    (True, True, False)
    """
    return bool(_words(metric) & LOWER)


def headline(metrics: Mapping[str, object]) -> str | None:
    """Return the metric that a task puts first, and None where nothing was measured."""
    return next(iter(metrics), None)


def in_order(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return every metric's name once, in the order in which tasks put them."""
    return list(dict.fromkeys(name for row in rows for name in row))


def shown(metric: str, value: float | None) -> str:
    """Return a value as a line of a table shows it; None is what a run folder has for no finite number.

    >>> shown("accuracy", 0.9638), shown("rmse_degrees", 12.34567), shown("loss", None)
    ('96.38%', 'rmse_degrees 12.3457', 'loss NaN')
    """
    if value is None:
        return f"{metric} NaN"
    return f"{value:.2%}" if is_share(metric) else f"{metric} {value:.4f}"
