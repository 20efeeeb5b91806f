"""How a metric is read from its name: the one place that knows which is told first, how it is shown, what is better.

A task's `summary` puts its headline first; names end in their unit where they have one (`rmse_degrees`).
"""

import re
from collections.abc import Iterable, Mapping

SHARES = frozenset({"accuracy", "auc", "share", "rate"})
"""Words in the name of a share of 1, which is shown in per cent."""
WRITTEN = {"auc": "AUC", "rmse": "RMSE", "mse": "MSE", "mae": "MAE", "nll": "NLL", "r2": "R²", "bayes": "Bayes"}
"""Words of a metric's name that the field writes otherwise."""
LOWER = frozenset({"loss", "perplexity", "nll", "bits", "error", "rmse", "mse", "mae", "regret", "deviation"})
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


def spoken(metric: str) -> str:
    """Return a metric's name as a reader knows it.

    >>> spoken("auc"), spoken("constant_rmse_degrees"), spoken("personal/accuracy")
    ('AUC', 'constant RMSE degrees', 'personal/accuracy')
    """
    return re.sub(r"[a-z0-9]+", lambda word: WRITTEN.get(word[0], word[0]), metric.replace("_", " "))


def digits(value: float) -> str:
    """Return a number with four digits that count, at most four behind the point and at least one.

    >>> [digits(value) for value in (0.31424, 8.81234, 479.123, -86.25, 0.000012345, 3.5e7)]
    ['0.3142', '8.812', '479.1', '-86.25', '1.234e-05', '3.5e+07']
    """
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        return f"{value:.4g}"
    return f"{value:.{max(1, 4 - len(str(int(size)))) if size >= 1 else 4}f}"


def shown(metric: str, value: float | None) -> str:
    """Return a value as a line of a table shows it; None is what a run folder has for no finite number.

    >>> shown("accuracy", 0.9638), shown("rmse_degrees", 12.34567), shown("loss", None)
    ('96.38%', 'RMSE degrees 12.35', 'loss NaN')
    """
    if value is None:
        return f"{spoken(metric)} NaN"
    return f"{value:.2%}" if is_share(metric) else f"{spoken(metric)} {digits(value)}"
