"""How the numbers of a comparison are told, on a screen and on its page."""

import math

from fedjourney.comparison.design import Budget
from fedjourney.comparison.results import Results
from fedjourney.metrics import is_share
from fedjourney.report.words import byte_text, measured, plain


def measured_of(results: Results, value: float) -> str:
    """Return a value of the comparison's metric."""
    return measured(results.comparison.metric, None if math.isnan(value) else value)


def budget_text(budget: Budget) -> str:
    """Return a budget with its unit."""
    if budget.axis == "bytes":
        return byte_text(budget.most)
    return f"{plain(budget.most)} {'rounds' if budget.axis == 'rounds' else 'evaluations'}"


def points(results: Results, value: float | None, sign: bool = False) -> str:
    """Return a difference: in points where the metric is a share."""
    if value is None or math.isnan(value):
        return "–"
    share = is_share(results.comparison.metric)
    return f"{100 * value if share else value:{'+' if sign else ''}.2f}" if share else f"{value:+.4g}"


def between(results: Results, low: float, high: float) -> str:
    """Return an interval of differences."""
    if math.isnan(low):
        return "–"
    return f"{points(results, low, True)} … {points(results, high, True)}"
