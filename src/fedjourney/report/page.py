"""The page of one run."""

import math

from fedjourney.metrics import in_order, is_share, spoken
from fedjourney.report.charts import Series, line_chart
from fedjourney.report.holdings import holdings
from fedjourney.report.record import SPLITS, Point, Run, table
from fedjourney.report.sections import again, client_words, configuration, exhibit, failures, platform, rounds_table
from fedjourney.report.style import document
from fedjourney.report.verdict import divergence, headline, standstill
from fedjourney.report.words import (
    byte_text,
    byte_unit,
    duration,
    esc,
    folded,
    listed,
    measured,
)

MOST_METRICS = 6


def run_page(run: Run) -> str:
    """Return the page of one run as HTML."""
    parts = [
        header(run),
        *(reversed(learned(run)) if run.personal else learned(run)),  # what the headline is about comes first
        "<h2>Who holds what</h2>",
        holdings(run),
        "<h2>What was sent</h2>",
        traffic(run),
        "<h2>What failed</h2>",
        failures(run),
        "<h2>Configuration</h2>",
        configuration(run),
        "<h2>Where it ran</h2>",
        platform(run),
        "<h2>Run it again</h2>",
        again(run),
    ]
    return document(run.name, "\n".join(part for part in parts if part))


def header(run: Run) -> str:
    """Return title, result, digest, what is missing, and the facts at a glance."""
    failed = run.idle and any(table(row, "clients").get("failed") for row in run.rounds)
    notes = [*divergence(run), *standstill(run), *run.notes]
    notes += ["What failed stands below."] if failed else []
    if not run.finished:
        of = "" if run.wanted_rounds is None else f" of {run.wanted_rounds}"
        notes.insert(0, f"This run is not finished: it has written round {run.last_round}{of}.")
    items = "".join(f"<li>{esc(note)}</li>" for note in notes)
    digest = run.info.get("digest")
    folded_digest = (
        f'<details class="digest"><summary>digest {esc(str(digest)[:12])}</summary><code>{esc(digest)}</code></details>'
        if digest
        else '<p class="digest">No digest: run.json does not give one.</p>'
    )
    shown = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in facts(run))
    return (
        f'<header><h1>{esc(run.name)}</h1><p class="result">{esc(headline(run))}</p>{folded_digest}'
        + (f'<div class="note" role="note"><ul>{items}</ul></div>' if notes else "")
        + f'</header><dl class="facts">{shown}</dl>'
    )


def learned(run: Run) -> list[str]:
    """Return two sections: how the model did that the server has, and how the clients did."""
    title, said = "How it learned", ""
    if run.personal:
        title = "How the shared model learned" if run.trained else "The server's model"
    if run.personal and not run.trained:
        said = "The server's model is the one that it began with: in this run nothing was learned on it."
    elif run.personal and run.untrained:
        said = f"In it as at the start, for clients have their own or nothing moves it: {listed(run.untrained, 6)}."
    return [
        "\n".join(
            [
                f"<h2>{esc(title)}</h2>",
                f'<p class="said">{esc(said)}</p>' if said else "",
                f'<div class="charts">{"".join(metric_charts(run))}</div>' if run.metrics else "",
                folded("Every round as a table", rounds_table(run))
                if run.rounds
                else _none("No round was written yet."),
                exhibit(run),
            ]
        ),
        f"<h2>How it serves its clients</h2>\n{client_evaluation(run)}\n{client_words(run)}",
    ]


def facts(run: Run) -> list[tuple[str, str]]:
    """Return (name, value) of what a reader asks first."""
    metric, found = run.main_metric, []
    if metric:
        if run.personal:  # the headline is about those, and everything else says that it is not
            shared = "shared model" if run.trained else "untrained shared model"
            found.append(("own models, the worst tenth", run.final("evaluation", f"personal/{metric}", "worst_tenth")))
            found.append((f"{shared}, test {spoken(metric)}", run.final("test", metric)))
            found.append((f"{shared}, on clients' own data", run.final("evaluation", metric, "mean")))
        else:
            found.append((f"validation {spoken(metric)}", run.final("validation", metric)))
            found.append(("on clients' own data", run.final("evaluation", metric, "mean")))
            found.append(("on the worst tenth's", run.final("evaluation", metric, "worst_tenth")))
        found.append(("mean of unseen clients", run.final("unseen", metric, "mean")))
    shown = [(name, measured(metric or "", value)) for name, value in found if value is not None]
    sent = [run.cumulative(key) for key in ("bytes_up", "bytes_down")]
    seconds = run.info.get("seconds", sum(y for _, y in run.series("seconds")) or None)
    examples = table(run.info, "dataset").get("examples")
    shown += [
        (
            "dataset",
            str(table(run.info, "dataset").get("name") or table(run.experiment, "data").get("name", "-")),
        )
    ]
    if isinstance(examples, dict):
        shown.append(("training examples", _count(examples.get("train"))))
    shown += [
        ("model parameters", _count(run.info.get("parameters"))),
        ("sent up", byte_text(sent[0][-1][1] if sent[0] else None)),
        ("sent down", byte_text(sent[1][-1][1] if sent[1] else None)),
        ("time", duration(seconds) if isinstance(seconds, int | float) else "-"),
    ]
    return [(name, value) for name, value in shown if value != "-"]


def metric_charts(run: Run) -> list[str]:
    """Return a chart for each metric: test, validation and train where they are measured."""
    charts = []
    for metric in run.metrics[:MOST_METRICS]:
        share = is_share(metric)
        named = {"train": "clients' training"} if run.personal else {}
        lines = [
            Series(named.get(split, split), scaled(run.values(split, metric), share), k)
            for k, split in enumerate(SPLITS)
        ]
        if any(line.points for line in lines):
            said, unit = spoken(metric), "%" if share else ""
            charts.append(line_chart(said[:1].upper() + said[1:], lines, unit=unit, high=100 if share else None))
    return charts


def client_evaluation(run: Run) -> str:
    """Return the clients' own evaluation: mean, a band one spread wide on both sides, and the worst tenth."""
    told = in_order(table(row, "evaluation") for row in run.rounds)
    own = "personal/"
    order = {name: place for place, name in enumerate(run.metrics)}
    found = sorted(told, key=lambda name: (not name.startswith(own), order.get(name.removeprefix(own), len(order))))
    charts = []
    for metric in [name for name in found if not _same_for_any_model(run, name)][:MOST_METRICS]:
        share = is_share(metric)
        unit, factor = ("%", 100.0) if share else ("", 1.0)
        mean = run.values("evaluation", metric, "mean")
        width = dict(run.values("evaluation", metric, "spread"))
        limits = (0.0, 100.0) if share else (float("-inf"), float("inf"))
        band = [
            (x, max(limits[0], (y - width[x]) * factor), min(limits[1], (y + width[x]) * factor))
            for x, y in mean
            if math.isfinite(y) and math.isfinite(width.get(x, math.nan))
        ]
        worst = scaled(run.values("evaluation", metric, "worst_tenth"), share)
        lines = [
            Series("mean", scaled(mean, share), 0, band),
            Series("worst tenth", worst, 4),
        ]
        unseen = scaled(run.values("unseen", metric, "mean"), share)
        if unseen:
            lines.append(Series("unseen clients", unseen, 2))
        if mean or worst:
            said = spoken(metric.removeprefix(own))
            title = f"Clients' own {said}"
            if run.personal:
                title = f"Clients' own models: {said}" if metric.startswith(own) else f"The shared model: {said}"
            charts.append(line_chart(title, lines, unit=unit, high=100 if share else None))
    if not charts:
        return _none("No client evaluated the model on its own data in this run.")
    words = "Each client's held-out part of its own data. The band is one spread between clients, up and down."
    if any(table(row, "unseen") for row in run.rounds):
        words += " Unseen clients are those that never train."
    return f'<p class="said">{words}</p><div class="charts">{"".join(charts)}</div>'


def _same_for_any_model(run: Run, metric: str) -> bool:
    """Whether clients' own models give what the shared one gives, beside the metric that they are told by: a floor."""
    bare = metric.removeprefix("personal/")
    if bare in (metric, run.main_metric):
        return False
    return run.values("evaluation", metric, "mean") == run.values("evaluation", bare, "mean")


def traffic(run: Run) -> str:
    """Return bytes sent up and down, summed over the rounds."""
    up, down = run.cumulative("bytes_up"), run.cumulative("bytes_down")
    if not up and not down:
        return _none("The rounds do not say what was sent.")
    size, unit = byte_unit(max(y for _, y in up + down))
    lines = [
        Series("up", [(x, y / size) for x, y in up], 0),
        Series("down", [(x, y / size) for x, y in down], 1),
    ]
    chart = line_chart("Sent since the start", lines, unit=unit, low=0)
    seconds = run.series("seconds")
    pace = line_chart("Time of each round", [Series("last", seconds, 3)], unit="s", low=0) if seconds else ""
    return f'<div class="charts">{chart}{pace}</div>'


def scaled(points: list[Point], share: bool) -> list[Point]:
    """Return points in per cent where the metric is a share."""
    return [(x, 100 * y) for x, y in points] if share else points


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _none(words: str) -> str:
    return f'<p class="none">{esc(words)}</p>'
