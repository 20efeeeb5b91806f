"""Line charts as inline SVG: few good ticks, and each line named where it ends."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from fedjourney.report.axes import decades, room, shorten, spread, ticks
from fedjourney.report.words import esc, plain

Point = tuple[float, float]
WIDTH, HEIGHT, TOP, BOTTOM = 440, 260, 12, 40
DASHES = ("", "6 3", "2 3")  # colours come again after eight lines, with another dash


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: its direct label.
        points: (x, y), x ascending; where y is NaN the line has a gap, which is told below the chart.
        colour: index of its colour; the ninth line takes the first colour, dashed.
        band: (x, low, high) drawn behind the line.
    """

    name: str
    points: Sequence[Point]
    colour: int
    band: Sequence[tuple[float, float, float]] = ()


def line_chart(
    title: str, series: Sequence[Series], *, unit: str = "", x_name: str = "round", x_whole: bool = True,
    low: float | None = None, high: float | None = None, values: bool = True, x_log: bool = False,
) -> str:  # fmt: skip
    """Return a figure with a caption and a line for each series that has points.

    Args:
        title: the caption, without the unit.
        series: the lines.
        unit: of the y values, shown once in the caption.
        x_name: what the x axis counts.
        x_whole: whether x is counted in whole numbers.
        low: the least y of the axis; by default the least value, or 0 if that is near.
        high: a y that the axis never passes.
        values: whether the direct labels give the last value too.
        x_log: whether the x axis is logarithmic; what lies at 0 is then left out.
    """
    if x_log:
        series = [
            replace(line, points=[p for p in line.points if p[0] > 0], band=[b for b in line.band if b[0] > 0])
            for line in series
        ]
    series = [line for line in series if line.points]
    gaps = _gaps(series, x_name)
    caption = esc(title) + (f' <span class="unit">{esc(unit)}</span>' if unit else "")
    ys = [y for line in series for _, y in line.points] + [y for line in series for b in line.band for y in b[1:]]
    ys = [y for y in ys if math.isfinite(y)]
    if not ys:
        empty = gaps or '<p class="none">Not measured in this run.</p>'
        return f"<figure><figcaption>{caption}</figcaption>{empty}</figure>"
    xs = sorted({x for line in series for x, _ in line.points})
    bottom = min(ys) if low is None else min(low, *ys)
    y_ticks = ticks(0.0 if 0 < bottom < max(ys) / 2 else bottom, max(ys))
    if high is not None:
        y_ticks = [y for y in y_ticks if y <= max(high, *ys)]
    x_ticks = decades(xs[0], xs[-1]) if x_log else ticks(xs[0], xs[-1], 6, x_whole)
    x_ticks = [x for x in x_ticks if xs[0] <= x <= xs[-1]] or [xs[0]]
    y_low, y_high = min(bottom, y_ticks[0]), max(max(ys), y_ticks[-1])
    y_high = y_high if y_high > y_low else y_low + 1
    named = len(series) * 13 <= HEIGHT - TOP - BOTTOM + 13
    labels = [shorten(line.name, 18) + (f" {_ending(line.points[-1][1], unit)}" if values else "") for line in series]
    left = 10 + max(room(plain(y)) for y in y_ticks)
    right = WIDTH - (36 + max(map(room, labels)) if named else 8)
    base = HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        if x_log and xs[-1] > xs[0]:
            across = math.log(x / xs[0]) / math.log(xs[-1] / xs[0])
        else:
            across = (x - xs[0]) / (xs[-1] - xs[0]) if xs[-1] > xs[0] else 0.5
        return round(left + across * (right - left), 1), round(base - (y - y_low) / (y_high - y_low) * (base - TOP), 1)

    parts = []
    for y in y_ticks:
        _, py = at(xs[0], y)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text x="{left - 6:.1f}" y="{py + 4:.1f}" text-anchor="end">{plain(y)}</text>')
    for x in x_ticks:
        parts.append(f'<text x="{at(x, y_low)[0]}" y="{base + 16}" text-anchor="middle">{plain(x)}</text>')
    parts.append(f'<text x="{(left + right) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{esc(x_name)}</text>')
    finite = [[point for point in line.points if math.isfinite(point[1])] for line in series]
    places = spread([at(*points[-1])[1] if points else base for points in finite], 13, TOP, base)
    for line, points, label, place in reversed(list(zip(series, finite, labels, places, strict=True))):  # 1st on top
        look = _look(line)
        band = [b for b in line.band if all(map(math.isfinite, b))]
        if band:
            edge = [at(x, top) for x, _, top in band] + [at(x, least) for x, least, _ in reversed(band)]
            parts.append(f'<polygon class="band c{line.colour % 8}" points="{_joined(edge)}"/>')
        for whole, part in groupby(line.points, key=lambda point: math.isfinite(point[1])):
            if whole:
                drawn = [at(*point) for point in part]
                drawn += drawn if len(drawn) == 1 else []  # one point alone is a dot only where it comes twice
                parts.append(f'<polyline {look("line")} points="{_joined(drawn)}"/>')
        end_x, end_y = at(*points[-1]) if points else (left, base)
        if points:
            parts.append(f'<circle {look("dot")} cx="{end_x}" cy="{end_y}" r="3"/>')
        if named and end_x > right - 3:
            start = f"M{end_x + 3:.1f} {end_y}"
            parts.append(f'<path {look("leader")} d="{start}L{right + 11:.1f} {place:.1f}"/>')
        if named:
            parts.append(
                f'<path {look("key")} d="M{right + 11:.1f} {place:.1f}h10"/>'
                f'<text class="name" x="{right + 25:.1f}" y="{place + 4:.1f}">{esc(label)}</text>'
            )
    said = "; ".join(f"{line.name}: {plain(line.points[0][1])} to {plain(line.points[-1][1])}" for line in series)
    hover = esc(json.dumps(_hover(series, xs, x_name, unit, at), ensure_ascii=False, separators=(",", ":")))
    return (
        f'<figure class="chart"><figcaption>{caption}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" data-hover="{hover}">'
        f"<title>{esc(title)} by {esc(x_name)}. {esc(said)} {esc(unit)}</title>{''.join(parts)}"
        f'<line class="cursor" y1="{TOP}" y2="{base}" x1="-9" x2="-9"/></svg>'
        f"{'' if named else _legend(series)}{gaps}</figure>"
    )


def _look(line: Series) -> Callable[[str], str]:
    """Return the attributes of a line's colour and dash for a class of marks."""
    dash = DASHES[line.colour // 8 % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return lambda kind: f'class="{kind} c{line.colour % 8}"{dashed if kind in ("line", "key") else ""}'


def _legend(series: Sequence[Series]) -> str:
    """Return names beside samples of their lines, for charts of more lines than have room for labels."""
    keys = (
        f'<span><svg viewBox="0 0 22 10" aria-hidden="true"><path {_look(line)("key")} d="M0 5h20"/></svg>'
        f" {esc(line.name)}</span>"
        for line in series
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _gaps(series: Sequence[Series], x_name: str) -> str:
    """Return in words where lines have no finite number, those of the same words in one sentence; or nothing."""
    found: dict[str, list[str]] = {}
    for line in series:
        if words := _gap(line, x_name):
            found.setdefault(words, []).append(line.name)
    return "".join(f'<p class="gap">{esc(", ".join(names))}: {esc(words)}.</p>' for words, names in found.items())


def _gap(line: Series, x_name: str) -> str:
    gone = [x for x, y in line.points if not math.isfinite(y)]
    if not gone:
        return ""
    last = max((x for x, y in line.points if math.isfinite(y)), default=None)
    if last is None:
        return "in no place a finite number"
    at = [f"round {plain(x)}" if x_name == "round" else f"{plain(x)} {x_name}" for x in gone]
    after = sum(x > last for x in gone)
    if after == len(gone):
        return f"not a finite number from {at[0]} on"
    some = f"not a finite number in {len(gone)} of {len(line.points)} evaluations"
    return f"{some}, and none from {at[-after]} on" if after else f"{some}, the last time in {at[-1]}"


def _ending(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit == "%" and math.isfinite(value) else plain(float(f"{value:.3g}"))


def _joined(points: Sequence[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _hover(
    series: Sequence[Series], xs: Sequence[float], x_name: str, unit: str, at: Callable[[float, float], Point]
) -> list[list[object]]:
    """Return [x in the drawing, text] for at most 400 of the x values."""
    known = [(line.name, dict(line.points)) for line in series]
    every = max(1, math.ceil(len(xs) / 400))
    return [
        [
            at(x, 0)[0],
            [f"{x_name} {plain(x)}", *(f"{name} {plain(y[x])} {unit}" for name, y in known if x in y)],
        ]
        for x in xs[::every]
    ]
