"""README's picture of a comparison, from its results.json.

    .venv/bin/fedjourney compare configs/compare-evolution-small.toml --out runs/small --data-dir DIR
    .venv/bin/python docs/pictures/comparison.py runs/small/results.json docs/pictures/comparison.svg

A panel for each scenario, a row for each arm: the mean over seeds at the smaller budget (hollow) and the larger one
(filled), with its 95 % interval, on a scale of the logarithm of the error; a dashed line for a ceiling or a floor that
stands beside. Readable on light and on dark pages.
"""

import argparse
import json
import math
from html import escape
from pathlib import Path
from typing import Any

KINDS = {
    "sends coordinates": ("fedavg", "topk-fedavg", "topk-fedsgd"),
    "sketches of gradients": ("sketched-fedavg", "sketched-fedsgd"),
    "fitness": ("evofed", "open-es", "genetic", "random-search"),
    "both": ("sketch-then-es",),
}
WIDTH, LEFT, RIGHT, ROW, TOP, BETWEEN = 760, 130, 24, 22, 106, 44
TICKS = (0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
STYLE = """
svg{--page:#fff;--ink:#1b1b19;--soft:#5c5b56;--grid:#e4e3dd;--k0:#2a78d6;--k1:#1baf7a;--k2:#eb6834;--k3:#9463c9;
font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
@media(prefers-color-scheme:dark){svg{--page:#1d1d1b;--ink:#eceae4;--soft:#a5a39b;--grid:#33322e;--k0:#5598e7;
--k1:#2bbd88;--k2:#ee7c4d;--k3:#ac86d8}}
.page{fill:var(--page)}text{fill:var(--soft)}.ink{fill:var(--ink)}.title{fill:var(--ink);font-weight:600}
.grid{stroke:var(--grid)}.beside{stroke:var(--soft);stroke-dasharray:4 3}
.k0{--c:var(--k0)}.k1{--c:var(--k1)}.k2{--c:var(--k2)}.k3{--c:var(--k3)}
.span{stroke:var(--c);stroke-width:3;opacity:.45}.dot{fill:var(--c)}.few{fill:var(--page);stroke:var(--c);stroke-width:1.5}
"""


def picture(told: dict[str, Any]) -> str:
    """Return the SVG."""
    cells = {(one["scenario"], next(iter(one["budget"].values()))): one["arms"] for one in told["budgets"]}
    scenarios, budgets = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
    arms = [
        (kind, arm) for kind, names in enumerate(KINDS.values()) for arm in names if arm in next(iter(cells.values()))
    ]
    panel = (WIDTH - LEFT - RIGHT - BETWEEN * (len(scenarios) - 1)) / len(scenarios)
    height = TOP + ROW * len(arms) + 44
    lines = {  # of clients' own models only where one class is not all that they are asked for
        (scenario, arm): row
        for scenario in scenarios
        for arm, row in cells[scenario, budgets[-1]].items()
        if row.get("beside") in ("floor", "ceiling") and row["mean"] < 1
    }
    values = [rows[arm][end] for rows in cells.values() for _, arm in arms for end in ("low", "high")]
    values += [row["mean"] for row in lines.values()]
    shown = [tick for tick in TICKS if min(values) < tick < max(values)]
    low, high = min(values) - 0.02, 1 - (1 - max(values)) * 0.9

    def at(place: int, value: float) -> float:
        share = math.log((1 - low) / (1 - value)) / math.log((1 - low) / (1 - high))
        return round(LEFT + place * (panel + BETWEEN) + share * panel, 1)

    sizes = [f"{budget / 1000:g} kB" for budget in budgets]
    parts = [f'<rect class="page" width="{WIDTH}" height="{height}"/>']
    parts.append(_text(12, 20, f"Test {told['metric']} at equal bytes a client, up and down", "title"))
    parts.append(
        _text(
            12,
            38,
            f"hollow: {sizes[0]} · filled: {sizes[-1]} · bar: 95 % of the mean over seeds · scale: log of the error",
        )
    )
    x = 16.0
    for kind, name in enumerate(KINDS):
        parts.append(f'<circle class="dot k{kind}" cx="{x}" cy="54" r="4"/>')
        parts.append(_text(x + 8, 58, name))
        x += 26 + 6.5 * len(name)
    for place, scenario in enumerate(scenarios):
        parts.append(_text(at(place, low), TOP - 24, scenario, "title"))
        for tick in shown:
            line = at(place, tick)
            parts.append(f'<line class="grid" x1="{line}" x2="{line}" y1="{TOP - 2}" y2="{height - 40}"/>')
            parts.append(_text(line, TOP - 8, f"{tick:g}", anchor="middle"))
        beside = [(arm, row) for (where, arm), row in lines.items() if where == scenario]
        for number, (arm, row) in enumerate(beside):
            x, y = at(place, row["mean"]), height - 24 + 15 * number
            parts.append(f'<line class="beside" x1="{x}" x2="{x}" y1="{TOP - 2}" y2="{y - 10}"/>')
            parts.append(_text(x + 4, y, f"{arm} {100 * row['mean']:.1f} %", anchor="end"))
        for number, (kind, arm) in enumerate(arms):
            y = TOP + ROW * (number + 0.5)
            if place == 0:
                parts.append(_text(LEFT - 10, y + 4, arm, "ink", "end"))
            for budget, dot, radius in ((budgets[0], "few", 3.5), (budgets[-1], "dot", 4.5)):
                row = cells[scenario, budget][arm]
                ends = f'x1="{at(place, row["low"])}" x2="{at(place, row["high"])}" y1="{y}" y2="{y}"'
                parts.append(f'<line class="span k{kind}" {ends}/>')
                parts.append(f'<circle class="{dot} k{kind}" cx="{at(place, row["mean"])}" cy="{y}" r="{radius}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">'
        f"<title>{escape(told['comparison'])}</title><style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("svg", type=Path)
    said = parser.parse_args()
    said.svg.write_text(picture(json.loads(said.results.read_text())))
