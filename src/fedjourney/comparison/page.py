"""The page of a comparison: verdicts, who wins where, curves over every axis, tables, rules not met."""

from collections.abc import Sequence

from fedjourney.comparison import rules, statistics
from fedjourney.comparison.arms_page import arms_of, tuning_of
from fedjourney.comparison.claims import Verdict
from fedjourney.comparison.claims_page import claims_of
from fedjourney.comparison.design import AXES, Budget
from fedjourney.comparison.outcome import mean_curve
from fedjourney.comparison.results import Results
from fedjourney.comparison.words import between, budget_text, measured_of, points
from fedjourney.metrics import is_share
from fedjourney.report.charts import Series, line_chart
from fedjourney.report.style import document
from fedjourney.report.words import byte_text, byte_unit, esc, folded, html_table, plain, plural

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
        f"<h2>What was claimed</h2>{claims_of(results, verdicts)}" if verdicts else "",
        "<h2>Who is ahead where</h2>",
        _wins(results),
        *(_scenario(results, scenario) for scenario in comparison.scenarios),
        f"<h2>What it costs to reach a target</h2>{_targets(results)}" if comparison.targets else "",
        f"<h2>Tuning</h2>{tuning_of(results)}" if comparison.tuning else "",
        "<h2>Which rules this result does not meet</h2>",
        f'<div class="note" role="note"><ul>{unmet}</ul></div>',
        "<h2>The arms</h2>",
        arms_of(results),
        "<h2>Run it again</h2>",
        '<p class="said">What is finished is not computed again; a run that was killed goes on.</p>'
        f'<pre tabindex="0">{esc(comparison.command or f"fedjourney compare {comparison.name}.toml")}</pre>',
    ]
    return document(comparison.name, "\n".join(part for part in parts if part))


def headline(results: Results) -> str:
    """Return the state of things at the largest budget of the first scenario, and whether it can be told."""
    scenario, budget = next(iter(results.comparison.scenarios)), results.comparison.budgets[-1]
    first, ties = results.best(scenario, budget)
    mean = statistics.interval(results.values(scenario, first, budget)).mean
    said = f"{first} has the best mean, {measured_of(results, mean)}, at {budget_text(budget)} in {scenario}"
    return said + (f"; {', '.join(ties)} cannot be told from it" if ties else "")


def _colours(results: Results) -> dict[str, int]:
    return {arm: place for place, arm in enumerate(results.comparison.contest)}


def _wins(results: Results) -> str:
    """Return the grid of budgets by scenarios: the best mean, and who cannot be told from it."""
    comparison, colours = results.comparison, _colours(results)
    head = "".join(f'<th scope="col">{esc(budget_text(budget))}</th>' for budget in comparison.budgets)
    rows = []
    for scenario in comparison.scenarios:
        cells = []
        for budget in comparison.budgets:
            first, ties = results.best(scenario, budget)
            mean = statistics.interval(results.values(scenario, first, budget)).mean
            tied = f"<small>not told from it: {esc(', '.join(ties))}</small>" if ties else ""
            cells.append(
                f'<td><div class="cell c{colours[first] % 8}{" tie" if ties else ""}">{esc(first)} '
                f"{esc(measured_of(results, mean))}{tied}</div></td>"
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
            folded(f"At {budget_text(budget)}", figures)
            if tables
            else f"<h3>At {esc(budget_text(budget))}</h3>{figures}"
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
            line = [(x / size, factor * y) for x, y, _ in curve]
            band = [(x / size, factor * (y - s), factor * (y + s)) for x, y, s in curve]
            if share:
                band = [(x, max(low, 0.0), min(high, 100.0)) for x, low, high in band]
            lines.append(Series(arm, line, colour, band if len(comparison.seeds) > 1 else []))
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
                measured_of(results, row["mean"]),
                points(results, row["spread"]),
                " … ".join(measured_of(results, row[end]) for end in ("low", "high")) if row["seeds"] > 1 else "–",
                other["against"] if other else "–",
                points(results, other["mean"], True) if other else "–",
                between(results, other["low"], other["high"]) if other else "–",
                f"{other['holm']:.3f}" if other else "–",
                points(results, other["detectable"]) if other and other["detectable"] is not None else "–",
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
        words += f" Twice the test set's own standard error is {points(results, resolution)} points."
    return html_table(head, rows, f"{scenario} at {budget_text(budget)}") + f'<p class="said">{esc(words)}</p>'


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
                rows.append([f"{scenario}: {arm}", measured_of(results, target), f"{hit}/{len(reached)}", *told])
    head = ["arm", "target", "seeds that reach it", "rounds", "bytes", "evaluations"]
    words = "The median over seeds until validation first keeps the target for three evaluations; > is censored."
    return f'<p class="said">{words}</p>{html_table(head, rows, "Costs of reaching a target")}'


def _median(axis: str, reached: Sequence[tuple[float, bool]]) -> str:
    """Return the median cost; one that falls on a run that missed is known only to be larger."""
    ordered = sorted(reached, key=lambda one: (not one[1], one[0]))
    cost, found = ordered[(len(ordered) - 1) // 2]
    return ("" if found else "> ") + (byte_text(cost) if axis == "bytes" else plain(cost))
