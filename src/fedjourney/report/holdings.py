"""Who holds what: clients by classes as dots, or a histogram of sizes where there are too many clients."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from fedjourney.report.axes import room, shorten, ticks
from fedjourney.report.record import Run, number
from fedjourney.report.words import esc, folded, html_table, plain, plural

MOST_CLIENTS, MOST_CLASSES, MOST_TITLES = 100, 100, 3000


def counts_of(run: Run) -> list[list[float]] | None:
    """Return a row per client with its examples of each class, or None where that is not known.

    `counts` maps a client to its classes; a file that maps a class to its clients is turned around.
    """
    raw: Any = run.partition.get("counts")
    if isinstance(raw, dict):
        keys = list(raw)
        if all(str(key).isdigit() for key in keys):
            keys.sort(key=int)
        raw = [raw[key] for key in keys]
    if not isinstance(raw, list) or not raw or not all(isinstance(row, list) and row for row in raw):
        return None
    table = [[number(value) or 0.0 for value in row] for row in raw]
    width = len(table[0])
    if any(len(row) != width for row in table):
        return None
    if len(table) != run.clients and width == run.clients:
        table = [list(column) for column in zip(*table, strict=True)]
    return table


def holdings(run: Run) -> str:
    """Return the section's content: a chart, a line that sums it up, and the figures as a table."""
    counts = counts_of(run)
    sizes = [x for value in _listed(run.partition.get("sizes")) if (x := number(value)) is not None]
    sizes = sizes or [sum(row) for row in counts or []]
    if not sizes:
        return '<p class="none">The run folder does not say how the data were divided.</p>'
    clients, unseen = number(run.partition.get("clients")), number(run.partition.get("unseen"))
    some = f"The first {plain(len(sizes))} of {plain(clients)} clients" if clients and clients > len(sizes) else ""
    verb = "hold" if some or len(sizes) > 1 else "holds"
    said = (
        f"{some or plural(len(sizes), 'client')} {verb} {plain(sum(sizes))} examples: {plain(min(sizes))} at least, "
        f"{plain(median(sizes))} in the middle, {plain(max(sizes))} at most."
        + (f" The last {plain(unseen)} never train: the model is evaluated on all that they hold." if unseen else "")
    )
    words = f'<p class="said">{esc(said)}</p>'
    if counts is None or len(counts) > MOST_CLIENTS or len(counts[0]) > MOST_CLASSES:
        return words + histogram(sizes, "Clients by number of examples", "examples", "clients")
    names, kind = _names(run, len(counts[0])), str(run.partition.get("kind") or "class")
    figures = html_table(
        ["client", "examples", *names],
        [[i, plain(sum(row)), *(plain(value) for value in row)] for i, row in enumerate(counts)],
        f"Examples of each {kind} that each client holds",
    )
    return words + dots(counts, names, kind) + folded("As a table", figures)


def dots(counts: Sequence[Sequence[float]], names: Sequence[str], kind: str) -> str:
    """Return clients (across) by classes (down): a dot's area is its examples, a bar a client's.

    Args:
        counts: of shape (clients, classes).
        names: of the classes.
        kind: what they are: classes, or values of a column such as "speaker".
    """
    clients, classes = len(counts), len(names)
    labels = [shorten(name, 14) for name in names]
    left = 12 + max(map(room, labels))
    step_x = min(34.0, max(9.0, (960 - left) / clients))
    step_y = min(24.0, max(15.0, step_x))
    bars, top = 44, 56
    width, height = left + clients * step_x + 8, top + classes * step_y + 36
    most = max(max(row) for row in counts) or 1.0
    largest = max(sum(row) for row in counts) or 1.0
    radius = min(1.5 * step_x, step_y) / 2 - 0.4
    titled = clients * classes <= MOST_TITLES
    parts = []
    for k, label in enumerate(labels):
        y = top + (k + 0.5) * step_y
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{width - 8:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{esc(label)}</text>')
    for i, row in enumerate(counts):
        x, tall = left + (i + 0.5) * step_x, bars * sum(row) / largest
        parts.append(
            f'<rect class="c0" x="{x - step_x * 0.36:.1f}" y="{8 + bars - tall:.1f}" '
            f'width="{step_x * 0.72:.1f}" height="{tall:.1f}">'
            f"<title>client {i}: {plain(sum(row))} examples</title></rect>"
        )
        for k, value in enumerate(row):
            if value > 0:
                r = max(0.7, radius * math.sqrt(value / most))
                title = f"<title>client {i}, {esc(names[k])}: {plain(value)}</title>" if titled else ""
                place = f'cx="{x:.1f}" cy="{top + (k + 0.5) * step_y:.1f}" r="{r:.1f}"'
                parts.append(
                    f'<circle class="c0" {place}>{title}</circle>' if title else f'<circle class="c0" {place}/>'
                )
    for at in ticks(0, clients - 1, 11, whole=True) if clients > 1 else [0.0]:
        if at < clients:
            x = left + (at + 0.5) * step_x
            parts.append(f'<text x="{x:.1f}" y="{height - 22:.1f}" text-anchor="middle">{at:.0f}</text>')
    parts.append(f'<text x="{left + clients * step_x / 2:.1f}" y="{height - 5:.1f}" text-anchor="middle">client</text>')
    return (
        f'<figure class="wide"><figcaption>Examples of each {esc(kind)} at each client '
        '<span class="unit">area of a dot: their number; bars: all of a client</span></figcaption>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Chart of who holds what">'
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="width:{width:.0f}px" role="img">'
        f"<title>{plural(clients, 'client')}; what they hold is told apart by {esc(kind)}, {classes} in all. At most "
        f"{plain(most)} examples of one at a client, {plain(largest)} together</title>{''.join(parts)}</svg></div>"
        "</figure>"
    )


def histogram(values: Sequence[float], title: str, across: str, up: str) -> str:
    """Return bars that count how many values fall into each of about twenty steps."""
    edges = ticks(min(values), max(values), 20, whole=True)
    step = edges[1] - edges[0]
    heights = [0] * (len(edges) - 1)
    for value in values:
        heights[min(int((value - edges[0]) / step), len(heights) - 1)] += 1
    y_ticks = ticks(0, max(heights), 5, whole=True)
    left, right, top, base = 16 + room(plain(y_ticks[-1])), 620.0, 12, 200
    wide = (right - left) / len(heights)
    parts = []
    for tick in y_ticks:
        y = base - tick / y_ticks[-1] * (base - top)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{plain(tick)}</text>')
    for i, height in enumerate(heights):
        tall = height / y_ticks[-1] * (base - top)
        said = f"{plain(edges[i])} to {plain(edges[i + 1])} {across}: {height} {up}"
        parts.append(
            f'<rect class="c0" x="{left + i * wide + 1:.1f}" y="{base - tall:.1f}" '
            f'width="{max(wide - 2, 1):.1f}" height="{tall:.1f}"><title>{esc(said)}</title></rect>'
        )
    for tick in ticks(edges[0], edges[-1], 8, whole=True):
        if edges[0] <= tick <= edges[-1]:
            x = left + (tick - edges[0]) / step * wide
            parts.append(f'<text x="{x:.1f}" y="{base + 16}" text-anchor="middle">{plain(tick)}</text>')
    parts.append(f'<text x="{(left + right) / 2:.1f}" y="{base + 34}" text-anchor="middle">{esc(across)}</text>')
    rows = [[f"{plain(edges[i])} to {plain(edges[i + 1])}", height] for i, height in enumerate(heights)]
    return (
        f'<figure class="wide part"><figcaption>{esc(title)}</figcaption>'
        f'<svg viewBox="0 0 640 240" style="width:640px" role="img">'
        f"<title>{esc(title)}: {len(values)} {esc(up)} in {len(heights)} steps</title>"
        f"{''.join(parts)}</svg></figure>" + folded("As a table", html_table([across, up], rows, title))
    )


def _names(run: Run, width: int) -> list[str]:
    for place in (run.partition.get("classes"), run.info.get("dataset", {})):
        names = place.get("classes") if isinstance(place, dict) else place
        if isinstance(names, list) and len(names) == width:
            return [f"class {name}" if str(name).isdigit() else str(name) for name in names]
    return [f"class {k}" for k in range(width)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
