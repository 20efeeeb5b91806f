"""Which rules of a fair comparison a result does not meet; they are printed, never hidden."""

import math

from fedjourney import plugins
from fedjourney.comparison.design import Comparison
from fedjourney.comparison.results import Results
from fedjourney.strategies import Rounds

ENOUGH, FOR_BETTER, TRIALS, TUNING_SEEDS = 5, 10, 16, 2


def status(results: Results) -> str:
    """Return in a word or two what the result may be used for."""
    seeds = len(results.comparison.seeds)
    claims = results.comparison.claims
    known = bool(claims) and all(results.comparison.registered(claim) in results.registered for claim in claims)
    return ("registered" if known else "exploratory") + (", a preview" if seeds < ENOUGH else "")


def unmet(results: Results) -> list[str]:
    """Return a sentence for every rule that is not met."""
    comparison = results.comparison
    return [*_seeds(results), *_reported(results), *_tuned(results), *_beside(comparison), *_said(results)]


def _seeds(results: Results) -> list[str]:
    count = len(results.comparison.seeds)
    if count < ENOUGH:
        return [f"Seeds: {count}, a preview. An interval wants {ENOUGH} or more, 'better' {FOR_BETTER}."]
    if count < FOR_BETTER:
        return [f"Seeds: {count} are enough for intervals; 'better' wants {FOR_BETTER}."]
    return []


def _reported(results: Results) -> list[str]:
    comparison, few, short, outside, gone = results.comparison, set(), set(), set(), 0
    for scenario in comparison.scenarios:
        for arm in comparison.contest:
            for budget in comparison.budgets:
                row = results.row(scenario, arm, budget)
                gone += row["diverged"]
                place = f"{arm} ({scenario}, {budget.axis} {budget.most:g})"
                if row["evaluations"] == 0:
                    outside.add(place)
                elif row["evaluations"] < 5:
                    few.add(place)
                if row["short"]:
                    short.add(place)
    found = []
    if outside:
        found.append(f"No round fits into the budget, the initial model stands: {_some(outside)}.")
    if few:
        found.append(f"Fewer than five evaluations within the budget: {_some(few)}. Lower experiment.evaluate_every.")
    if short:
        found.append(f"Runs that ended before the budget: {_some(short)}. Raise experiment.rounds.")
    if gone:
        found.append(f"Runs that diverged and count as chance: {gone}.")
    return found


def _tuned(results: Results) -> list[str]:
    comparison = results.comparison
    if comparison.tuning is None:
        return ["Tuning: none; every arm is judged with the settings somebody wrote down."]
    found, tuning = [], comparison.tuning
    if tuning.source is not None:
        found.append(f"Tuning: taken from {tuning.source}; what it paid and how fair it was, that result says.")
    if tuning.trials < TRIALS or len(tuning.seeds) < TUNING_SEEDS:
        found.append(
            f"Tuning: {tuning.trials} trials on {len(tuning.seeds)} seeds; the rule is {TRIALS} on {TUNING_SEEDS}."
        )
    plain = [arm.name for arm in comparison.arms.values() if not arm.ranges]
    if plain:
        found.append(f"Not tuned: {', '.join(plain)}.")
    edges = {
        f"{arm} {path} = {winner.values[path]:g} ({scenario})"
        for (scenario, arm, _), winner in results.winners.items()
        for path in winner.edges
    }
    if edges:
        found.append(f"Winners on the edge of their range, widen it: {_some(edges)}.")
    return found


def _beside(comparison: Comparison) -> list[str]:
    """Return which floors, ceilings, controls and twins are missing."""
    scenario = next(iter(comparison.scenarios))
    resolved = {arm: comparison.experiment(arm, scenario, comparison.seeds[0]) for arm in comparison.arms}
    strategies = {arm: str(one["strategy"]["name"]) for arm, one in resolved.items()}
    transforms = {table["name"] for one in resolved.values() for table in one["transform"]}
    names, found = set(strategies.values()), []
    evolving = [arm for arm, name in strategies.items() if _says(name, "evolution")]
    alone = [arm for arm in evolving if not comparison.arms[arm].twin]
    if alone:
        found.append(f"Evolution without a gradient twin (an arm's `twin`): {', '.join(alone)}.")
    missing = []
    if "local_only" not in names:
        missing.append("local_only (the floor)")
    if "centralized" not in names and all(arm.paired for arm in comparison.arms.values()):
        missing.append("pooled data (the ceiling)")
    if evolving and "random_search" not in names:
        missing.append("random search")
    if missing:
        found.append(f"Not beside it: {', '.join(missing)}.")
    if any(budget.axis == "bytes" for budget in comparison.budgets):
        kinds = [name for name in ("topk", "qsgd") if name not in transforms]
        kinds += [] if "sketch" in names else ["sketch"]
        if kinds:
            found.append(f"Low-byte controls not beside it: {', '.join(kinds)}.")
        dense = sorted(
            arm for arm, one in resolved.items() if one["transform"] and _says(strategies[arm], "dense_down")
        )
        if dense:
            found.append(f"Transforms act on the way up alone, the way down of {', '.join(dense)} is dense.")
    if unweighted := sorted(name for name in names if not _says(name, "weighted")):
        found.append(f"Means that do not look at numbers of examples: {', '.join(unweighted)}; mind unequal shards.")
    found.append(
        "Compute counts examples evaluated; drawing noise again is work that is not counted. Time is not compared."
    )
    return found


def _says(strategy: str, trait: str) -> bool:
    """Return what a strategy's class says of itself."""
    return bool(getattr(plugins.load("strategy", strategy), trait, getattr(Rounds, trait)))


def _said(results: Results) -> list[str]:
    comparison = results.comparison
    if not comparison.claims:
        return ["No claim was registered: everything here is exploratory."]
    late = [claim.name for claim in comparison.claims if comparison.registered(claim) not in results.registered]
    return [f"Claims written down after the first run, or changed since: {', '.join(late)}."] if late else []


def resolution(results: Results) -> float | None:
    """Return twice the test set's own standard error of an accuracy, below which nothing is a difference."""
    if results.comparison.metric != "accuracy":
        return None
    trace = next(iter(results.traces.values()))
    best = 0.0
    for scenario in results.comparison.scenarios:
        for arm in results.comparison.contest:
            best = max(best, results.row(scenario, arm, results.comparison.budgets[-1])["mean"])
    return 2 * math.sqrt(max(best * (1 - best), 0.0) / max(trace.test, 1))


def _some(places: set[str]) -> str:
    ordered = sorted(places)
    return ", ".join(ordered[:6]) + (f" and {len(ordered) - 6} more" if len(ordered) > 6 else "")
