"""Numbers and tables as a reader wants them; every text that comes from a run is escaped here."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fedjourney.metrics import is_share

PERCENT = "%"


def esc(value: Any) -> str:
    """Return any value as text that is safe in HTML and in its attributes."""
    return escape(str(value), quote=True)


def plain(value: float | None) -> str:
    """Return a number with as many digits as help.

    >>> plain(0.41238), plain(12345.6), plain(3.01e20), plain(None), plain(math.nan)
    ('0.4124', '12,346', '3.01e+20', '-', 'NaN')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "NaN"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:.4g}"


def measured(metric: str, value: float | None) -> str:
    """Return a metric's value with its unit.

    >>> measured("accuracy", 0.8731), measured("loss", 0.41238), measured("accuracy", math.nan)
    ('87.3 %', '0.4124', 'NaN')
    """
    if value is None or not math.isfinite(value):
        return plain(value)
    return f"{100 * value:.1f} %" if is_share(metric) else plain(value)


def byte_unit(most: float) -> tuple[float, str]:
    """Return (bytes in a unit, its name), the unit that suits the largest of the values.

    >>> byte_unit(3_200_000)
    (1000000.0, 'MB')
    """
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if most >= size:
            return size, name
    return 1.0, "bytes"


def byte_text(value: float | None) -> str:
    """Return bytes in the unit that suits them.

    >>> byte_text(3_215_000)
    '3.21 MB'
    """
    if value is None:
        return "-"
    size, name = byte_unit(value)
    return f"{value / size:.3g} {name}"


def duration(seconds: float | None) -> str:
    """Return a time in at most two units.

    >>> duration(3.21), duration(125), duration(7320)
    ('3.2 s', '2 min 5 s', '2 h 2 min')
    """
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 round`, `2 rounds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int | None = None) -> str:
    """Return names in a row, at most so many of them.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
    ('a, b and c', 'a, b and 1 more')
    """
    shown = [*names[:most], *([f"{len(names) - most} more"] if most and len(names) > most else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, numbers: bool = True) -> str:
    """Return a table, escaped, that scrolls by itself where the page is narrow.

    Args:
        head: names of the columns.
        rows: the cells; the first of each row is its heading.
        caption: what it shows, for readers who do not see.
        numbers: whether the cells after the first are figures, set flush right.
    """
    kind = "figures" if numbers else "words"
    columns = "".join(f'<th scope="col">{esc(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{esc(row[0])}</th>{"".join(f"<td>{esc(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table class="{kind}">'
        f'<caption class="unseen">{esc(caption)}</caption><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, content: str) -> str:
    """Return content behind a line that opens it."""
    return f"<details><summary>{esc(summary)}</summary>{content}</details>"
