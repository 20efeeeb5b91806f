"""The ratios as an SVG of its own, readable on light and on dark pages."""

import math
from collections.abc import Callable
from html import escape
from statistics import median

from table import PEER_TITLES, TITLES, Measured, ratios, rows, said

WIDTH, LEFT, RIGHT, ROW, GAP, TOP = 760, 190, 150, 22, 6, 76
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
STYLE = """
svg{--page:#fff;--ink:#1b1b19;--soft:#5c5b56;--grid:#e4e3dd;--flower:#2a78d6;--pfl:#eb6834;--bare:#1baf7a;
font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
@media(prefers-color-scheme:dark){svg{--page:#1d1d1b;--ink:#eceae4;--soft:#a5a39b;--grid:#33322e;--flower:#5598e7;
--pfl:#ee7c4d;--bare:#2bbd88}}
.page{fill:var(--page)}text{fill:var(--soft)}.ink{fill:var(--ink)}.title{fill:var(--ink);font-weight:600}
.grid{stroke:var(--grid)}.one{stroke:var(--soft)}.goal{stroke:var(--ink);stroke-width:2}
.flower{--c:var(--flower)}.pfl{--c:var(--pfl)}.bare{--c:var(--bare)}
.span{stroke:var(--c);stroke-width:3;opacity:.45}.dot{fill:var(--c)}
.plain{fill:var(--page);stroke:var(--c);stroke-width:1.5}
"""


def chart(measured: Measured) -> str:
    """Return the SVG: a row for each peer of each model; filled dots are `--fast`, hollow ones the defaults."""
    lines = _lines(measured)
    values = [value for _, _, _, fast, plain, goal in lines for value in [*fast, *plain, *([goal] if goal else [])]]
    low, high = _ends(values)
    height = TOP + ROW * len(lines) + GAP * (sum(bool(line[0]) for line in lines) + 1)

    def at(value: float) -> float:
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    parts = [f'<rect class="page" width="{WIDTH}" height="{height}"/>']
    parts += [_text(12, 20, "How many times a peer's examples a second", "title")]
    parts += [_text(12, 38, "filled: --fast · hollow: defaults · line: least to most · upright: the goal")]
    for tick in (tick for tick in TICKS if low <= tick <= high):
        kind = "one" if tick == 1 else "grid"
        parts.append(f'<line class="{kind}" x1="{at(tick)}" x2="{at(tick)}" y1="{TOP - 4}" y2="{height - 8}"/>')
        parts.append(_text(at(tick), TOP - 8, f"{tick:g}x", anchor="middle"))
    top = TOP - GAP
    for title, peer, name, fast, plain, goal in lines:
        top += GAP if title else 0
        y = top + ROW / 2
        top += ROW
        parts.append(_text(12, y + 4, title, "title"))
        parts.append(_text(LEFT - 10, y + 4, name, "ink", "end"))
        parts += _marks(peer, y, at, fast, plain, goal)
        shown = f"{said(median(fast))}x" + (f" (goal {goal:g}x)" if goal else "") if fast else "not measured"
        parts.append(_text(WIDTH - RIGHT + 12, y + 4, shown, "ink"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
        f"<title>Ratios of speed, as in bench.md</title><style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


Line = tuple[str, str, str, list[float], list[float], float | None]


def _lines(measured: Measured) -> list[Line]:
    """Return (title, peer, its name, ratios of --fast, of the defaults, goal); titles on a model's first row only."""
    found: list[Line] = []
    for _, model, system, goals in rows(measured):
        title = TITLES["simulate" if system == "simulate" else model].partition(",")[0].strip("`")
        for peer in goals:
            fast = ratios(measured, model, system, peer)
            plain = ratios(measured, model, "ours", peer) if system == "ours-fast" else []
            if fast or plain:
                found.append((title, peer, PEER_TITLES[peer], fast, plain, goals[peer]))
                title = ""
    return found


def _ends(values: list[float]) -> tuple[float, float]:
    """Return the axis' ends: ticks around all values, and 1."""
    low = max((tick for tick in TICKS if tick <= min([1.0, *values]) * 0.999), default=min([TICKS[0], *values]))
    return low, min((tick for tick in TICKS if tick >= max([2.0, *values])), default=max([TICKS[-1], *values]))


def _marks(
    peer: str, y: float, at: Callable[[float], float], fast: list[float], plain: list[float], goal: float | None
) -> list[str]:
    parts = []
    if goal:
        parts.append(f'<line class="goal" x1="{at(goal)}" x2="{at(goal)}" y1="{y - 8}" y2="{y + 8}"/>')
    for found, kind, radius in ((plain, "plain", 3.5), (fast, "dot", 5)):
        if found:
            ends = f'x1="{at(min(found))}" x2="{at(max(found))}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="span {peer}" {ends}/>')
            parts.append(f'<circle class="{kind} {peer}" cx="{at(median(found))}" cy="{y}" r="{radius}"/>')
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
