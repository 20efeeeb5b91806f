"""The page of a comparison: what was claimed, and how each claim stands."""

import math
from collections.abc import Sequence

from fedjourney.comparison.claims import CONFIRMED, REFUTED, Verdict
from fedjourney.comparison.design import AXES
from fedjourney.comparison.results import Results
from fedjourney.comparison.words import between, budget_text, measured_of, points
from fedjourney.metrics import is_share
from fedjourney.report.words import esc, folded, html_table

AT_ONCE = 4  # cells of a claim that are shown unfolded


def claims_of(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Return every claim with its verdict, and the figures behind it."""
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
                found, wide = points(results, mean, True), between(results, low, high)
            rows.append(
                [
                    cell.scenario,
                    budget_text(cell.budget),
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
        what = AXES[claim.metric] + (f" until {measured_of(results, claim.target)}" if claim.target is not None else "")
        word = {"greater": f"at least {claim.ratio:g} times", "less": f"at most 1/{claim.ratio:g} of"}
        return f"Tested: {what} of {sides[0]}, {word.get(claim.direction, f'within {claim.ratio:g} times')} {sides[1]}."
    margin = points(results, abs(claim.margin)) + (" points" if is_share(results.comparison.metric) else "")
    words = {
        "greater": f"more than {margin} above",
        "less": f"more than {margin} below",
        "equal": f"within ±{margin} of",
    }
    if claim.margin < 0:
        words = {"greater": f"less than {margin} below", "less": f"less than {margin} above"}
    return f"Tested: {claim.metric} of {sides[0]} {words[claim.direction]} {sides[1]}."
