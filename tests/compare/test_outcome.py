"""What is read off a run: its number at a budget, censored targets, diverged runs, verdicts; from rows written here."""

import math
from pathlib import Path
from typing import Any

import pytest
from written import Make, claim, results

from fedjourney import plugins
from fedjourney.comparison import claims, rules, statistics, tuning
from fedjourney.comparison.cells import FILE
from fedjourney.comparison.design import Budget
from fedjourney.comparison.file import parse
from fedjourney.comparison.outcome import Trace, mean_curve, read


def test_the_number_is_the_mean_of_the_last_five_at_the_budget_never_the_best(make: Make) -> None:
    trace = make([0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert trace.at(Budget("rounds", 6)).value == pytest.approx((0.9 + 0.3 + 0.4 + 0.5 + 0.6) / 5)
    # a round is 10 * 1000 bytes over 10 clients; and (3 * 300 + 50) / 10 forward-equivalents a client
    found = trace.at(Budget("bytes", 3_000))
    assert (found.value, found.evaluations) == (pytest.approx((0.2 + 0.9 + 0.3) / 3), 3)
    assert found.paid == {"rounds": 3, "bytes": 3000, "evaluations": 285, "gradients": 90, "forwards": 15}
    assert trace.at(Budget("evaluations", 95 * 2)).value == pytest.approx(0.55)


def test_what_does_not_fit_or_ends_early_is_said(make: Make) -> None:
    trace = make([0.1, 0.2, 0.9])
    nothing = trace.at(Budget("bytes", 999))
    assert (nothing.value, nothing.evaluations, nothing.short) == (0.1, 0, False)
    assert not trace.at(Budget("bytes", 2_500)).short
    assert trace.at(Budget("bytes", 3_000)).short
    assert trace.at(Budget("rounds", 3)).short


def test_a_diverged_run_counts_as_chance_and_is_not_dropped(make: Make) -> None:
    stuck = make([0.1, 0.5] + [0.5] * 6, failed=range(3, 8))
    assert (stuck.at(Budget("rounds", 7)).diverged, stuck.at(Budget("rounds", 7)).value) == (True, 0.1)
    assert not stuck.at(Budget("rounds", 4)).diverged
    broken = make([0.1, 0.5, None], place=("all", "b", "default", 0))
    assert broken.at(Budget("rounds", 2)).value == 0.1


def test_where_guessing_has_no_number_a_diverged_run_counts_as_untrained(make: Make) -> None:
    trace = make([0.1, 0.5, None])  # its loss begins at 0.9
    told = Path(trace.cell.folder) / FILE
    told.write_text(told.read_text().replace('"classes": 10', '"classes": 0'))
    assert read(trace.cell, "loss").at(Budget("rounds", 2)).value == 0.9
    assert read(trace.cell, "accuracy").at(Budget("rounds", 2)).value == 0.1


@pytest.mark.parametrize(
    ("metric", "lower"), [("rmse_degrees", True), ("equal_error_rate", True), ("mse", True), ("return", False)]
)
def test_an_error_is_better_when_it_is_lower_whatever_its_unit(
    tables: dict[str, Any], make: Make, metric: str, lower: bool
) -> None:
    tables["comparison"]["metric"] = metric
    assert results(tables, make, {"averaging": [0.5]}).lower is lower


def test_a_target_must_be_held_and_a_run_that_misses_is_censored(make: Make) -> None:
    trace = make([0.1, 0.8, 0.2, 0.7, 0.8, 0.9, 0.1])
    assert trace.reach(0.7, "rounds", lower=False) == (3, True)
    assert trace.reach(0.7, "bytes", lower=False) == (3000, True)
    assert trace.reach(0.75, "rounds", lower=False) == (6, False)
    assert trace.reach(0.7, "rounds", False, Budget("bytes", 4_999)) == (4, False)


def test_curves_are_means_over_seeds_at_evaluations_that_all_had(make: Make) -> None:
    traces = [make([0.1, 0.2, 0.4], place=("all", "a", "default", 0))]
    traces += [make([0.1, 0.4, 0.6, 0.8], place=("all", "a", "default", 1), size=3000)]
    found = mean_curve(traces, "bytes")
    assert [x for x, _, _ in found] == [0, 2000, 4000]
    assert [y for _, y, _ in found] == pytest.approx([0.1, 0.3, 0.5])
    assert found[1][2] == pytest.approx(math.sqrt(0.02))


def test_verdicts(tables: dict[str, Any], make: Make) -> None:
    tables["claim"] = [
        claim("greater", 0.02),
        claim("less", 0.0),
        claim("equal", 0.06),
        claim("equal", 0.01, name="near"),
        claim("greater", 0.05, name="by five"),
        {"name": "skew", "arms": ["averaging"], "between": ["iid", "skew"], "direction": "equal", "margin": 0.01},
    ]
    ends = {
        "averaging": [0.90, 0.91, 0.92, 0.90, 0.91],
        "evolution": [0.85, 0.861, 0.871, 0.85, 0.859],
        "sketched": [0.85, 0.86, 0.87, 0.85, 0.86],
    }
    found = {one.claim.name: one for one in claims.judge(results(tables, make, ends))}
    assert {name: one.verdict for name, one in found.items()} == {
        "greater": "confirmed",
        "less": "refuted",
        "equal": "confirmed",
        "near": "refuted",
        "by five": "cannot tell",
        "skew": "confirmed",
    }
    assert all(one.registered for one in found.values())
    assert len(found["greater"].cells) == 2
    assert len(found["skew"].cells) == 1
    assert found["greater"].cells[0].found.mean == pytest.approx(0.05, abs=0.001)


def test_what_cannot_be_told_says_how_many_seeds_would(tables: dict[str, Any], make: Make) -> None:
    tables["claim"] = [claim("greater", 0.04), claim("greater", 0.0, name="sure"), claim("equal", 0.0499, name="edge")]
    ends = {
        "averaging": [0.90, 0.91, 0.92, 0.90, 0.91],
        "evolution": [0.84, 0.88, 0.87, 0.83, 0.87],
        "sketched": [0.85, 0.86, 0.87, 0.85, 0.86],
    }
    wide, sure, edge = claims.judge(results(tables, make, ends))
    paired = [0.06, 0.03, 0.05, 0.07, 0.04]  # in both scenarios: 0.05 ± 0.0158, 0.63 deviations above the margin
    count = statistics.seeds_for((0.05 - 0.04) / statistics.spread(paired))
    assert (wide.verdict, wide.seeds, wide.plain()["seeds_to_tell"]) == ("cannot tell", count, count)
    assert (sure.verdict, sure.plain()["seeds_to_tell"]) == ("confirmed", None)
    assert (edge.verdict, edge.seeds) == ("cannot tell", None)  # on the margin itself


def test_a_budget_too_small_for_a_round_decides_nothing(tables: dict[str, Any], make: Make) -> None:
    tables["claim"] = [claim("less", -0.9)]
    ends = {"averaging": [0.5, 0.6], "evolution": [0.5, 0.61], "sketched": [0.5, 0.6]}
    assert claims.judge(results(tables, make, ends))[0].verdict == "confirmed"
    found = results(tables, make, ends, averaging={"size": 10**6}, budget={"bytes": [20_000]})
    verdict = claims.judge(found)[0]
    assert verdict.verdict == "cannot tell"
    assert verdict.cells[0].note == "no round of averaging fits"


def test_claims_about_costs_are_ratios_and_what_is_censored_cannot_speak_for_less(
    tables: dict[str, Any], make: Make
) -> None:
    cost = {"arms": ["averaging", "evolution"], "metric": "bytes", "scenarios": ["iid"]}
    tables["claim"] = [
        cost | {"name": "twice", "ratio": 2.0},
        cost | {"name": "four times", "ratio": 4.0},
        cost | {"name": "to the target", "ratio": 2.0, "target": 0.8},
        cost | {"name": "less", "direction": "less", "target": 0.95},
        cost | {"name": "as much", "direction": "equal", "ratio": 1.1, "target": 0.95},
    ]
    ends = {"averaging": [0.90, 0.90, 0.90], "evolution": [0.85, 0.86, 0.85], "sketched": [0.8, 0.8, 0.8]}
    found = {one.claim.name: one for one in claims.judge(results(tables, make, ends, averaging={"size": 3000}))}
    assert {name: one.verdict for name, one in found.items()} == {
        "twice": "confirmed",
        "four times": "refuted",
        "to the target": "confirmed",
        "less": "cannot tell",
        "as much": "cannot tell",
    }
    assert found["twice"].cells[0].found.mean == pytest.approx(3.0)
    assert found["less"].cells[0].note == "target missed by 3 of 3 and 3 of 3"


def test_differences_are_to_the_twin_and_adjusted_for_all_arms(tables: dict[str, Any], make: Make) -> None:
    ends = {"averaging": [0.5, 0.6, 0.7], "evolution": [0.6, 0.71, 0.8], "sketched": [0.5, 0.6, 0.72]}
    found = results(tables, make, ends).differences("iid", Budget("rounds", 6))
    assert set(found) == {"evolution", "sketched"}
    assert found["evolution"]["against"] == "sketched"
    assert found["sketched"]["against"] == "averaging"
    assert found["evolution"]["mean"] == pytest.approx((0.1 + 0.11 + 0.08) / 3)
    assert found["evolution"]["holm"] == pytest.approx(2 * found["evolution"]["p"])


def test_tuning_looks_at_validation_alone_and_flags_the_edge(tables: dict[str, Any], make: Make) -> None:
    tables["tuning"] = {"trials": 3, "seeds": [100, 101]}
    tables["arms"]["averaging"]["tune"] = {"update.learning_rate": [0.01, 1.0]}
    comparison, traces, best = parse(tables), {}, {0: 0.5, 1: 0.6, 2: 0.9, 3: 0.7}
    for scenario in comparison.scenarios:
        for trial, value in best.items():
            for seed in (100, 101):
                place = (scenario, "averaging", tuning.setting_name(trial), seed)
                trace = make([0.1] + [value] * 3, place=place)
                points = [type(p)(p.paid, -p.test, p.validation) for p in trace.points]  # the test set says otherwise
                traces[place] = Trace(trace.cell, points, trace.rounds, trace.start, trace.chance, trace.test)
    found = tuning.choose(comparison, traces)
    winner = found["iid", "averaging", Budget("rounds", 3)]
    assert (winner.setting, winner.values) == ("trial-2", comparison.setting("averaging", 2))
    assert winner.scores == pytest.approx([0.5, 0.6, 0.9, 0.7])
    assert ("iid", "evolution", Budget("rounds", 3)) not in found
    assert tuning.edges_of(comparison, "averaging", {"update.learning_rate": 0.011}) == ["update.learning_rate"]
    assert tuning.edges_of(comparison, "averaging", {"update.learning_rate": 0.1}) == []


def test_rules_that_are_not_met_are_said(tables: dict[str, Any], make: Make) -> None:
    tables["arms"]["evolution"].pop("twin")
    ends = {"averaging": [0.5, 0.6], "evolution": [0.6, 0.71], "sketched": [0.5, 0.6]}
    found = results(tables, make, ends)
    said = "\n".join(rules.unmet(found))
    for word in ("a preview", "without a gradient twin", "random search", "No claim was registered", "Tuning: none"):
        assert word in said
    assert rules.status(found) == "exploratory, a preview"
    assert rules.resolution(found) == pytest.approx(2 * math.sqrt(0.655 * 0.345 / 10_000))


def test_rules_ask_strategies_what_they_are(tables: dict[str, Any], make: Make) -> None:
    tables["arms"]["evolution"].pop("twin")
    ends = {"averaging": [0.5, 0.6], "evolution": [0.6, 0.71], "sketched": [0.5, 0.6]}
    tables["arms"]["evolution"]["strategy"] = {"name": "foreign:Seeks"}
    said = "\n".join(rules.unmet(results(tables, make, ends)))
    assert "without a gradient twin (an arm's `twin`): evolution." in said
    assert "do not look at numbers of examples: foreign:Seeks;" in said
    assert plugins.load("strategy", "open_es").evolution  # type: ignore[attr-defined]
    assert not plugins.load("strategy", "sketch").evolution  # type: ignore[attr-defined]
