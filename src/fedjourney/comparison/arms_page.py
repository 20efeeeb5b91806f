"""The page of a comparison: its arms, and how they were tuned."""

from collections.abc import Mapping
from typing import Any

from fedjourney.comparison import statistics
from fedjourney.comparison.results import Results
from fedjourney.comparison.words import budget_text, measured_of
from fedjourney.report.words import byte_text, esc, folded, html_table, plain, plural


def tuning_of(results: Results) -> str:
    """Return what was tuned, what won, and what it cost."""
    tuning, rows = results.comparison.tuning, []
    assert tuning is not None
    if tuning.source is not None:
        rows = [
            [f"{scenario}: {arm}", budget_text(budget), winner.setting, _settings(winner.values) or "as in the file"]
            for (scenario, arm, budget), winner in results.winners.items()
        ]
        table = html_table(["arm", "budget", "setting", "what it sets"], rows, "Tuning", numbers=False)
        words = f"Nothing was tuned here: each arm has the settings that {tuning.source} chose, on other seeds."
        return f'<p class="said">{esc(words)}</p>' + folded("The settings", table)
    for (scenario, arm, budget), winner in results.winners.items():
        scores = [-one if results.lower else one for one in winner.scores[1:]]
        counts = [k for k in (1, 2, 4, 8, 16) if k <= len(scores)]
        sign = -1 if results.lower else 1
        rows.append(
            [
                f"{scenario}: {arm}",
                budget_text(budget),
                measured_of(results, winner.scores[0]),
                measured_of(results, (min if results.lower else max)(winner.scores)),
                ", ".join(f"{k}: {measured_of(results, sign * statistics.expected_best(scores, k))}" for k in counts),
                _settings(winner.values) or "as in the file",
                ", ".join(winner.edges),
            ]
        )
    paid = [trace.rounds[-1][0] for place, trace in results.traces.items() if place[3] in tuning.seeds]
    words = (
        f"{tuning.trials} random trials and the default for each arm and scenario, on "
        f"{plural(len(tuning.seeds), 'seed')} of their own, chosen by the server's validation set alone, "
        "an oracle that a real federation does not have. All trials together cost "
        f"{plain(sum(p['rounds'] for p in paid))} rounds, {byte_text(sum(p['bytes'] for p in paid))} and "
        f"{plain(sum(p['evaluations'] for p in paid))} "
        "forward-equivalents per client."
    )
    head = ["arm", "budget", "default", "tuned", "expected best of", "what won", "on the edge"]
    return f'<p class="said">{esc(words)}</p>' + folded(
        "Default, tuned, expected best of k trials (validation)", html_table(head, rows, "Tuning", numbers=False)
    )


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{path} = {value:g}" for path, value in values.items())


def arms_of(results: Results) -> str:
    """Return the arms: what each changes, and what of it is tuned."""
    comparison, rows = results.comparison, []
    for arm in comparison.arms.values():
        told = [f"[{table}] {_option(options)}" for table, options in arm.tables.items()]
        ranges = ", ".join(f"{path} {one.low:g} … {one.high:g}" for path, one in arm.ranges.items())
        rows.append([arm.name, arm.twin or arm.beside or "–", "; ".join(told) or "the base", ranges or "–"])
    return html_table(["arm", "twin, or beside", "what it changes", "tuned"], rows, "The arms", numbers=False)


def _option(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_option(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_option(one) for one in value)
    return str(value)
