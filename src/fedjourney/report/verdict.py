"""What came out of a run, and which of several is best: the sentences that pages lead with."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedjourney.metrics import lower_is_better, spoken
from fedjourney.report.record import SPLITS, Run, table
from fedjourney.report.words import listed, measured, plain, plural

FAR = 10  # times its beginning: a loss that ends higher has not been learned on


def headline(run: Run) -> str:
    """Return the result in one line: of clients' own models where they have any, else of the shared one."""
    metric, place = run.main_metric, run.told_by
    after = f"after {plural(run.last_round, 'round')}"
    if run.clients is not None:
        after += f" with {plural(run.clients, 'client')}"
    if metric is None or place is None:
        return f"Nothing measured {after}"
    last_x, value = run.values(*place)[-1]
    late = "" if int(last_x) == run.last_round else f", measured in round {plain(last_x)}"
    if run.personal:
        whose = "of the start model at clients" if run.idle else "of clients' own models"
        return f"{measured(metric, value)} mean {spoken(metric)} {whose} {after}{late}"
    return f"{measured(metric, value)} {place[0]} {spoken(metric)} {after}{late}"


def in_short(run: Run) -> str:
    """Return what a run's own page leads with, in short."""
    metric, place = run.main_metric, run.told_by
    if metric is None or place is None:
        return "-"
    whose = "own models' mean" if run.personal else place[0]
    return f"{measured(metric, run.final(*place))} {whose} {spoken(metric)}"


def divergence(run: Run) -> list[str]:
    """Return a sentence where a value ends as no finite number, or the loss far above its beginning; else nothing."""
    metric, place = run.main_metric, run.told_by
    if metric is None or place is None:
        return []
    own = "The mean {} of clients' own models"
    said = [(place, own.format(spoken(metric)) if run.personal else f"The {place[0]} {spoken(metric)}")]
    said += [((split, name), f"The {split} {spoken(name)}") for split in SPLITS[:2] for name in run.metrics]
    for path, what in said:
        values = run.values(*path)
        if values and not math.isfinite(values[-1][1]):
            finite = [x for x, y in values if math.isfinite(y)]
            if not finite:
                return [f"{what} was never a finite number: the run diverged, or it cannot be computed here."]
            since = min(x for x, _ in values if x > finite[-1])
            return [f"{what} is not a finite number from round {plain(since)} on: the run diverged."]
    losses = [y for _, y in run.series("test", "loss")]
    if len(losses) > 1 and losses[-1] > FAR * losses[0] > 0:
        return [f"The test loss ends {plain(losses[-1] / losses[0])} times as high as it began: the run diverged."]
    return []


def standstill(run: Run) -> list[str]:
    """Return a sentence where nothing was learned at all, or where what was learned was not looked at; else nothing."""
    if run.idle and run.personal:
        return ["No reply counted in any round: clients' models are that of the start."]
    if run.idle:
        return ["No round changed the model: its numbers are those of the start."]
    if run.info.get("personal") and run.finished and not run.personal:
        why = "" if table(run.experiment, "experiment").get("holdout") else ": [experiment] holdout is 0"
        return [
            f"Clients have models of their own here, which were not evaluated{why}. What is told is the shared model."
        ]
    return []


def main_metric(runs: Sequence[Run]) -> str | None:
    """Return the metric most of the runs are told by."""
    found = Counter(run.main_metric for run in runs if run.main_metric)
    return found.most_common(1)[0][0] if found else None


@dataclass(frozen=True)
class Yardstick:
    """What several runs are held against each other by: one metric, measured on the same kind of data in all.

    Attributes:
        metric: its name.
        words: the same with the data it was measured on.
        brief: the same, for the head of a column.
        places: where it lies in each run's rows.
    """

    metric: str
    words: str
    brief: str
    places: Sequence[tuple[str, ...]]


def subject(run: Run) -> list[str]:
    """Return what a run is about: which data (not how many), and which task. Only on the same can one be better."""
    words = [value for value in table(run.experiment, "data").values() if isinstance(value, str | list)]
    return [str(value) for value in (*words, table(run.experiment, "task").get("name"))]


def yardstick(runs: Sequence[Run]) -> Yardstick | None:
    """Return what the runs can be compared by; None where nothing was measured, or they are about different things.

    Test data, as a rule. Clients that have models of their own are not judged by a server's model on test data, but
    on their own held-out data; there the others are looked at too, with the model that they share.
    """
    metric = main_metric(runs)
    if metric is None or any(subject(run) != subject(runs[0]) for run in runs):
        return None
    if not any(run.personal for run in runs):
        words = f"test {spoken(metric)}"
        return Yardstick(metric, words, words, [("test", metric)] * len(runs))
    places = [("evaluation", f"personal/{metric}" if run.personal else metric, "mean") for run in runs]
    said = spoken(metric)
    return Yardstick(metric, f"mean {said} on clients' own data", f"{said} at clients", places)


def best_of(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return the best run in one line; nobody is best of one, on other data, or with no finite number at the end."""
    if any(subject(run) != subject(runs[0]) for run in runs):
        return "On different data or tasks: none is best"
    by = yardstick(runs)
    if by is None:
        return "Nothing was measured"
    ends = [(run.final(*place), name) for run, name, place in zip(runs, names, by.places, strict=True)]
    idle = [name for run, name in zip(runs, names, strict=True) if run.idle]
    ends = [(value, name) for value, name in ends if name not in idle]
    finite = [(value, name) for value, name in ends if value is not None and math.isfinite(value)]
    diverged = [name for value, name in ends if value is not None and not math.isfinite(value)]
    missing = [name for value, name in ends if value is None]
    after = f"; {listed(diverged)} diverged" if diverged else ""
    after += f"; {listed(idle)} learned nothing" if idle else ""
    after += f"; not measured in {listed(missing)}" if missing else ""
    if not finite:
        return f"No run that learned ends with a finite {by.words}{after}"
    value, name = min(finite) if lower_is_better(by.metric) else max(finite)
    ends_at = f"{measured(by.metric, value)} {by.words}{after}"
    return f"{name} ends best: {ends_at}" if len(finite) > 1 else f"{name} ends with {ends_at}"
