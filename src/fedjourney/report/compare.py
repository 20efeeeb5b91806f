"""The page of several runs: their curves over each other, a table of them, and where they differ."""

import math
from collections import Counter
from collections.abc import Sequence

from fedjourney.metrics import is_share, lower_is_better, spoken
from fedjourney.report.axes import shorten
from fedjourney.report.charts import Series, line_chart
from fedjourney.report.page import MOST_METRICS, scaled
from fedjourney.report.record import SPLITS, Point, Run, number, table
from fedjourney.report.style import document
from fedjourney.report.verdict import best_of, divergence, in_short, standstill, yardstick
from fedjourney.report.words import (
    byte_text,
    byte_unit,
    duration,
    esc,
    html_table,
    measured,
    plain,
    plural,
)


def comparison_page(runs: Sequence[Run]) -> str:
    """Return the page of several runs as HTML."""
    names = labels(runs)
    notes = [
        f"{name}: not finished, it has written round {run.last_round}."
        for name, run in zip(names, runs, strict=True)
        if not run.finished
    ]
    notes += [
        f"{name}: {note}"
        for name, run in zip(names, runs, strict=True)
        for note in (*divergence(run), *standstill(run), *run.notes)
    ]
    items = "".join(f"<li>{esc(note)}</li>" for note in notes)
    title = f"{plural(len(runs), 'run')} compared"
    parts = [
        f'<header><h1>{esc(title)}</h1><p class="result">{esc(best_of(runs, names))}</p>',
        f'<div class="note" role="note"><ul>{items}</ul></div>' if notes else "",
        "</header><h2>The runs</h2>",
        runs_table(runs, names),
        "<h2>How they learned</h2>",
        f'<div class="charts">{"".join(charts(runs, names))}</div>',
        "<h2>Where they differ</h2>",
        differences(runs, names),
    ]
    return document(title, "\n".join(part for part in parts if part))


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run that no other has: the experiment's, else its folder's, else numbered."""
    names = [run.name for run in runs]
    for tries in (
        [run.folder.resolve().name for run in runs],
        [f"{i + 1} {name}" for i, name in enumerate(names)],
    ):
        if max(Counter(shorten(name, 18) for name in names).values()) > 1:
            names = tries
    return names


def runs_table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return a row per run."""
    by = yardstick(runs)
    rows = []
    for i, (run, name) in enumerate(zip(runs, names, strict=True)):
        metric, points = (by.metric, run.values(*by.places[i])) if by else ("", [])
        kinds = [str(table(run.experiment, kind).get("name", "-")) for kind in ("strategy", "update", "partition")]
        finite = [(y, x) for x, y in points if math.isfinite(y)]
        best, at = (min if lower_is_better(metric) else max)(finite, default=(None, None), key=lambda point: point[0])
        sent = [run.cumulative(key) for key in ("bytes_up", "bytes_down")]
        seconds = number(run.info.get("seconds"))
        rows.append(
            [
                name,
                measured(metric, points[-1][1] if points else None) if by else in_short(run),
                measured(metric, best) + ("" if at is None else f" (round {plain(at)})"),
                *kinds,
                run.last_round,
                "-" if run.clients is None else run.clients,
                *(byte_text(points[-1][1] if points else None) for points in sent),
                duration(seconds if seconds is not None else sum(y for _, y in run.series("seconds"))),
                str(run.info.get("digest") or "-")[:12],
            ]
        )
    head = ["run", by.brief if by else "result", "best", "strategy", "update", "partition"]
    head += ["rounds", "clients", "up", "down", "time", "digest"]
    return html_table(head, rows, "The runs and their results")


def charts(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Return a chart of what the runs are compared by, one for each split and metric, and one against bytes sent."""
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))[:MOST_METRICS]
    drawn, by = [], yardstick(runs)
    if by and any(run.personal for run in runs):  # else it is one of the splits
        share = is_share(by.metric)
        lines = [
            Series(name, scaled(run.values(*place), share), k)
            for k, (run, name, place) in enumerate(zip(runs, names, by.places, strict=True))
        ]
        title = by.words[0].upper() + by.words[1:]
        drawn.append(line_chart(title, lines, unit="%" if share else "", high=100 if share else None))
    for metric in metrics:
        share = is_share(metric)
        for split in SPLITS:
            lines = [
                Series(name, scaled(run.values(split, metric), share), k)
                for k, (run, name) in enumerate(zip(runs, names, strict=True))
            ]
            if any(line.points for line in lines):
                title = f"{split.capitalize()} {spoken(metric)}"
                drawn.append(line_chart(title, lines, unit="%" if share else "", high=100 if share else None))
    paid = [_against_bytes(run, place) for run, place in zip(runs, by.places, strict=True)] if by else []
    if by and any(paid):
        share = is_share(by.metric)
        size, unit = byte_unit(max(x for points in paid for x, _ in points))
        lines = [
            Series(name, scaled([(x / size, y) for x, y in points], share), k)
            for k, (points, name) in enumerate(zip(paid, names, strict=True))
        ]
        drawn.append(
            line_chart(
                f"{by.words[0].upper()}{by.words[1:]} for what was sent",
                lines,
                unit="%" if share else "",
                x_name=f"{unit} up and down",
                x_whole=False,
                high=100 if share else None,
            )
        )
    return drawn or ['<p class="none">Nothing was measured in these runs.</p>']


def differences(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return the options in which the runs differ, a row each."""
    options = [_flat(run) for run in runs]
    keys = list(dict.fromkeys(key for option in options for key in option))
    differing = [key for key in keys if len({option.get(key) for option in options}) > 1 and key != "experiment.name"]
    if not differing:
        return '<p class="none">The experiments are the same but for their names.</p>'
    rows = [[key, *(option.get(key, "-") for option in options)] for key in differing]
    return html_table(["option", *names], rows, "Options in which the runs differ", numbers=False)


def _against_bytes(run: Run, place: tuple[str, ...]) -> list[Point]:
    up, down = dict(run.cumulative("bytes_up")), dict(run.cumulative("bytes_down"))
    return [(up.get(x, 0.0) + down.get(x, 0.0), y) for x, y in run.values(*place) if x in up or x in down]


def _flat(run: Run) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in run.experiment.items():
        tables = value if isinstance(value, list) else [value]
        for i, one in enumerate(tables):
            place = f"{name}[{i + 1}]" if isinstance(value, list) else name
            found |= {
                f"{place}.{key}": str(option) for key, option in (one if isinstance(one, dict) else {"": one}).items()
            }
    return found
