"""The page of a comparison: verdicts, who wins where, curves over every axis, tables, tuning, rules not met."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedjourney.comparison import rules, statistics
from fedjourney.comparison.claims import CONFIRMED, REFUTED, Verdict
from fedjourney.comparison.design import AXES, Budget
from fedjourney.comparison.outcome import mean_curve
from fedjourney.comparison.results import Results
from fedjourney.metrics import is_share
from fedjourney.report.charts import Series, line_chart
from fedjourney.report.style import document
from fedjourney.report.words import byte_text, byte_unit, esc, folded, html_table, measured, plain, plural

AT_ONCE = 4  # cells of a claim that are shown unfolded
STYLE = """<style>
.verdict{display:inline-block;padding:1px 8px;border-radius:10px;font-size:.82rem;font-weight:600;
border:1.5px solid var(--c);color:var(--ink);white-space:nowrap}
.claims{display:grid;gap:12px}.claims section{background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:12px 16px;min-width:0}.claims h3{border:0;margin:0 0 2px;padding:0;color:var(--ink);font-size:.95rem}
.claims p{margin:2px 0 6px}.wins td{min-width:120px}.wins table{min-width:0}
.cell{border-left:5px solid var(--c);padding:4px 8px;border-radius:3px}
.cell small{display:block;color:var(--soft)}
.tie{border-left-style:dotted}
</style>"""


def page_of(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return the page as HTML."""
    comparison = results.comparison
    count = f"{plural(len(comparison.arms), 'arm')}, {plural(len(comparison.seeds), 'seed')}"
    unmet = "".join(f"<li>{esc(one)}</li>" for one in rules.unmet(results))
    parts = [
        STYLE,
        f'<header><h1>{esc(comparison.name)}: {count}, <span class="status">{esc(rules.status(results))}</span></h1>'
        f'<p class="result">{esc(comparison.says or headline(results))}</p>',
        f'<p class="said" style="margin-top:10px">{esc(headline(results))}.</p>' if comparison.says else "",
        "</header>",
        f"<h2>What was claimed</h2>{_claims(results, verdicts)}" if verdicts else "",
        "<h2>Who is ahead where</h2>",
        _wins(results),
        *(_scenario(results, scenario) for scenario in comparison.scenarios),
        f"<h2>What it costs to reach a target</h2>{_targets(results)}" if comparison.targets else "",
        f"<h2>Tuning</h2>{_tuning(results)}" if comparison.tuning else "",
        "<h2>Which rules this result does not meet</h2>",
        f'<div class="note" role="note"><ul>{unmet}</ul></div>',
        "<h2>The arms</h2>",
        _arms(results),
        "<h2>Run it again</h2>",
        '<p class="said">What is finished is not computed again; a run that was killed goes on.</p>'
        f'<pre tabindex="0">fedjourney compare {esc(comparison.name)}.toml</pre>',
    ]
    return document(comparison.name, "\n".join(part for part in parts if part))


def headline(results: Results) -> str:
    """Return the state of things at the largest budget of the first scenario, and whether it can be told."""
    scenario, budget = next(iter(results.comparison.scenarios)), results.comparison.budgets[-1]
    first, ties = results.best(scenario, budget)
    mean = statistics.interval(results.values(scenario, first, budget)).mean
    said = f"{first} has the best mean, {_measured(results, mean)}, at {_budget(budget)} in {scenario}"
    return said + (f"; {', '.join(ties)} cannot be told from it" if ties else "")


def _measured(results: Results, value: float) -> str:
    return measured(results.comparison.metric, None if math.isnan(value) else value)


def _budget(budget: Budget) -> str:
    if budget.axis == "bytes":
        return byte_text(budget.most)
    return f"{plain(budget.most)} {'rounds' if budget.axis == 'rounds' else 'evaluations'}"


def _points(results: Results, value: float | None, sign: bool = False) -> str:
    """Return a difference: in points where the metric is a share."""
    if value is None or math.isnan(value):
        return "–"
    share = is_share(results.comparison.metric)
    return f"{100 * value if share else value:{'+' if sign else ''}.2f}" if share else f"{value:+.4g}"


def _between(results: Results, low: float, high: float) -> str:
    if math.isnan(low):
        return "–"
    return f"{_points(results, low, True)} … {_points(results, high, True)}"


def _claims(results: Results, verdicts: Sequence[Verdict]) -> str:
    shown = []
    for one in verdicts:
        colour = {CONFIRMED: "c2", REFUTED: "c4"}.get(one.verdict, "c5")
        cost = one.claim.metric in AXES
        level = "90 %" if one.claim.direction == "equal" else "95 %"
        rows = []
        for cell in one.cells:
            mean, low, high = cell.found
            if cost:
                found = "–" if math.isnan(mean) else f"{mean:.3g} x"
                wide = "–" if math.isnan(low) else f"{low:.3g} … {high:.3g}"
            else:
                found, wide = _points(results, mean, True), _between(results, low, high)
            rows.append(
                [
                    cell.scenario,
                    _budget(cell.budget),
                    found,
                    wide,
                    f"{cell.confirms:.3f}",
                    f"{cell.refutes:.3f}",
                    ("–" if cell.seeds is None else str(cell.seeds)),
                    cell.note,
                ]
            )
        head = [
            "scenario",
            "budget",
            "ratio" if cost else "difference",
            f"{level} interval",
            "p of the opposite",
            "p of the claim",
            "seeds to tell",
            "",
        ]
        figures = html_table(head, rows, one.claim.name)
        registered = "registered" if one.registered else "exploratory"
        shown.append(
            f'<section><h3>{esc(one.claim.name)} <span class="verdict {colour}">{esc(one.verdict)}</span> '
            f'<span class="unit">{registered}</span></h3>'
            f'<p>{esc(one.claim.says)}</p><p class="said">{esc(_asked(results, one))}</p>'
            f"{figures if len(rows) <= AT_ONCE else folded('Where, with intervals', figures)}</section>"
        )
    words = (
        "Confirmed: every cell by itself says so at 5 %. Refuted: one at least says the opposite, by Holm. 'Seeds to "
        "tell': with so many a difference like this one would be told from the claim's margin, with 80 % power; "
        "none: a thousand are too few."
    )
    return f'<p class="said">{words}</p><div class="claims">{"".join(shown)}</div>'


def _asked(results: Results, one: Verdict) -> str:
    """Return the claim as it is tested."""
    claim = one.claim
    sides = [f"{claim.arms[0]} in {place}" for place in claim.between] if claim.between else list(claim.arms)
    if claim.metric in AXES:
        what = AXES[claim.metric] + (f" until {_measured(results, claim.target)}" if claim.target is not None else "")
        word = {"greater": f"at least {claim.ratio:g} times", "less": f"at most 1/{claim.ratio:g} of"}
        return f"Tested: {what} of {sides[0]}, {word.get(claim.direction, f'within {claim.ratio:g} times')} {sides[1]}."
    margin = _points(results, abs(claim.margin)) + (" points" if is_share(results.comparison.metric) else "")
    words = {
        "greater": f"more than {margin} above",
        "less": f"more than {margin} below",
        "equal": f"within ±{margin} of",
    }
    if claim.margin < 0:
        words = {"greater": f"less than {margin} below", "less": f"less than {margin} above"}
    return f"Tested: {claim.metric} of {sides[0]} {words[claim.direction]} {sides[1]}."


def _colours(results: Results) -> dict[str, int]:
    return {arm: place for place, arm in enumerate(results.comparison.contest)}


def _wins(results: Results) -> str:
    """Return the grid of budgets by scenarios: the best mean, and who cannot be told from it."""
    comparison, colours = results.comparison, _colours(results)
    head = "".join(f'<th scope="col">{esc(_budget(budget))}</th>' for budget in comparison.budgets)
    rows = []
    for scenario in comparison.scenarios:
        cells = []
        for budget in comparison.budgets:
            first, ties = results.best(scenario, budget)
            mean = statistics.interval(results.values(scenario, first, budget)).mean
            tied = f"<small>not told from it: {esc(', '.join(ties))}</small>" if ties else ""
            cells.append(
                f'<td><div class="cell c{colours[first] % 8}{" tie" if ties else ""}">{esc(first)} '
                f"{esc(_measured(results, mean))}{tied}</div></td>"
            )
        rows.append(f'<tr><th scope="row">{esc(scenario)}</th>{"".join(cells)}</tr>')
    words = "The best mean of each cell; dotted where a paired t test (Holm over arms, 5 %) cannot tell it from others."
    return (
        f'<p class="said">{words}</p><div class="scroll wins" tabindex="0" role="region" aria-label="Who is ahead">'
        f'<table class="words"><thead><tr><th scope="col">scenario</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _scenario(results: Results, scenario: str) -> str:
    comparison = results.comparison
    tables: list[str] = []
    for budget in comparison.budgets[::-1]:
        figures = _table(results, scenario, budget)
        tables.append(
            f"<h3>At {esc(_budget(budget))}</h3>{figures}" if not tables else folded(f"At {_budget(budget)}", figures)
        )
    words = "Mean over seeds of the test set, a band one spread up and down; arms as judged at the largest budget."
    if len(comparison.contest) < len(comparison.arms):
        words += " What only stands beside is in the tables: a floor or a ceiling whose bytes are no budget of its own."
    drawn = "".join(_charts(results, scenario))
    return (
        f'<h2>{esc(scenario)}</h2><p class="said">{words}</p><div class="charts">{drawn}</div>'
        f'<div style="margin-top:22px">{"".join(tables)}</div>'
    )


def _charts(results: Results, scenario: str) -> list[str]:
    comparison, drawn = results.comparison, []
    metric, share = comparison.metric, is_share(comparison.metric)
    factor = 100.0 if share else 1.0
    last = comparison.budgets[-1]
    for axis, words in AXES.items():
        lines, size, unit = [], 1.0, ""
        curves = {arm: mean_curve(results.of(scenario, arm, last), axis) for arm in comparison.contest}
        most = max((x for curve in curves.values() for x, _, _ in curve), default=1.0)
        if axis == "bytes":
            size, unit = byte_unit(most)
        for arm, colour in _colours(results).items():
            curve = curves[arm]
            points = [(x / size, factor * y) for x, y, _ in curve]
            band = [(x / size, factor * (y - s), factor * (y + s)) for x, y, s in curve]
            if share:
                band = [(x, max(low, 0.0), min(high, 100.0)) for x, low, high in band]
            lines.append(Series(arm, points, colour, band if len(comparison.seeds) > 1 else []))
        name = f"{unit} per client, up and down" if axis == "bytes" else words
        drawn.append(
            line_chart(
                f"Test {metric} by {'bytes' if axis == 'bytes' else 'rounds' if axis == 'rounds' else 'compute'}",
                lines,
                unit="%" if share else "",
                x_name=name,
                x_whole=axis == "rounds",
                high=100 if share else None,
                x_log=axis != "rounds",
            )
        )
    return drawn


def _table(results: Results, scenario: str, budget: Budget) -> str:
    differences = results.differences(scenario, budget)
    rows = []
    for arm in results.comparison.arms:
        row = results.row(scenario, arm, budget)
        other = differences.get(arm)
        one = results.comparison.arms[arm]
        notes = [" by ".join(word for word in (one.beside, one.metric) if word)] if one.beside else []
        notes += [f"{row['diverged']} diverged"] if row["diverged"] else []
        notes += ["no round fits"] if row["evaluations"] == 0 else []
        notes += [f"{row['short']} ended before"] if row["short"] and not one.beside else []
        rows.append(
            [
                arm,
                _measured(results, row["mean"]),
                _points(results, row["spread"]),
                f"{_measured(results, row['low'])} … {_measured(results, row['high'])}" if row["seeds"] > 1 else "–",
                other["against"] if other else "–",
                _points(results, other["mean"], True) if other else "–",
                _between(results, other["low"], other["high"]) if other else "–",
                f"{other['holm']:.3f}" if other else "–",
                _points(results, other["detectable"]) if other and other["detectable"] is not None else "–",
                plain(row["paid"]["rounds"]),
                byte_text(row["paid"]["bytes"]),
                plain(row["paid"]["gradients"]),
                plain(row["paid"]["forwards"]),
                "; ".join(notes),
            ]
        )
    head = [
        "arm", results.comparison.metric, "spread", "95 % interval", "against", "difference", "95 % of it", "p (Holm)",
        "could see", "rounds", "bytes", "gradients", "forwards", "",
    ]  # fmt: skip
    resolution = rules.resolution(results)
    words = "Bytes and evaluations are per client. 'Could see': the difference found with 80 % power at this spread."
    if resolution:
        words += f" Twice the test set's own standard error is {_points(results, resolution)} points."
    return html_table(head, rows, f"{scenario} at {_budget(budget)}") + f'<p class="said">{esc(words)}</p>'


def _targets(results: Results) -> str:
    comparison, rows = results.comparison, []
    last = comparison.budgets[-1]
    for scenario in comparison.scenarios:
        for target in comparison.targets:
            for arm in comparison.contest:
                told = []
                for axis in AXES:
                    reached = [one.reach(target, axis, results.lower) for one in results.of(scenario, arm, last)]
                    told.append(_median(axis, reached))
                hit = sum(found for _, found in reached)
                rows.append([f"{scenario}: {arm}", _measured(results, target), f"{hit}/{len(reached)}", *told])
    head = ["arm", "target", "seeds that reach it", "rounds", "bytes", "evaluations"]
    words = "The median over seeds until validation first keeps the target for three evaluations; > is censored."
    return f'<p class="said">{words}</p>{html_table(head, rows, "Costs of reaching a target")}'


def _median(axis: str, reached: Sequence[tuple[float, bool]]) -> str:
    """Return the median cost; one that falls on a run that missed is known only to be larger."""
    ordered = sorted(reached, key=lambda one: (not one[1], one[0]))
    cost, found = ordered[(len(ordered) - 1) // 2]
    return ("" if found else "> ") + (byte_text(cost) if axis == "bytes" else plain(cost))


def _tuning(results: Results) -> str:
    tuning, rows = results.comparison.tuning, []
    assert tuning is not None
    if tuning.source is not None:
        rows = [
            [f"{scenario}: {arm}", _budget(budget), winner.setting, _settings(winner.values) or "as in the file"]
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
                _budget(budget),
                _measured(results, winner.scores[0]),
                _measured(results, (min if results.lower else max)(winner.scores)),
                ", ".join(f"{k}: {_measured(results, sign * statistics.expected_best(scores, k))}" for k in counts),
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


def _arms(results: Results) -> str:
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
