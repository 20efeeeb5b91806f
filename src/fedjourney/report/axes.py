"""Where the ticks and the labels of a chart go."""

import math
from collections.abc import Sequence


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> list[float]:
    """Return round numbers from at or below `low` to at or above `high`.

    >>> ticks(0, 87)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    >>> ticks(0, 3, whole=True)
    [0.0, 1.0, 2.0, 3.0]
    """
    if not high > low:
        low, high = (low, low + 1) if whole or low == 0 else (low - abs(low) / 2, low + abs(low) / 2)
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw)) if raw >= 1e-300 else 1e-300
    step = next(s * power for s in ((1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)) if s * power >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, min(digits, 300)) for i in range(first, last + 1)]


def decades(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers of a logarithmic axis between `low` and `high`: 1, 2, 5 times powers of ten, or fewer.

    >>> decades(4, 100)
    [5.0, 10.0, 20.0, 50.0, 100.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart until each keeps `gap` from the next, near where they belong.

    >>> spread([10, 11, 50], 10, 0, 100)
    [10, 20, 50]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    floor = low
    for i in order:
        placed[i] = floor = max(wanted[i], floor)
        floor += gap
    ceiling = high
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def shorten(text: str, most: int) -> str:
    """Return at most `most` letters of a text, an ellipsis for the rest."""
    return text if len(text) <= most else text[: most - 1] + "…"


def room(label: str) -> float:
    """Return the room a label wants, on a narrow page too, where letters are a little larger."""
    return 7.1 * sum(1.4 if letter in "mwMW…%" else 0.6 if letter in "ijl.,:;|!'" else 1.0 for letter in label)
