"""From raw measurements to ratios, and the table that shows them."""

from statistics import median
from typing import Any

Measurement = dict[str, Any]
Measured = list[Measurement]

TITLES = {
    "lenet": "LeNet 44 k",
    "mlp": "MLP 199 k",
    "cnn": "CNN 1.66 M",
    "lstm": "LSTM 2 x 256",
    "cifar": "CIFAR-10 CNN 1.6 M",
    "noop": "no-op client",
    "simulate": "`simulate`, a plain Flower app (LeNet)",
}
PEERS = {
    "flower": ("flower",),
    "pfl": ("pfl-1", "pfl-2"),
    "bare": ("bare-eager", "bare-compiled"),
}
"""A peer's variants, of which the better one counts."""
PEER_TITLES = {"flower": "Flower", "pfl": "pfl-research", "bare": "best bare loops"}
GOALS = {
    "lenet": {"flower": 11.0, "pfl": 4.2, "bare": 1.4},
    "mlp": {"flower": 18.0, "pfl": 3.7, "bare": 0.9},
    "cnn": {"flower": 2.4, "pfl": 1.3, "bare": 0.97},
    "lstm": {"flower": 2.0, "bare": 0.97},
    "cifar": {"pfl": 20.0},  # on a GPU
    "noop": {"flower": 50.0},
    "simulate": {"flower": 3.5},
}
SYSTEM_TITLES = {
    "ours-fast": "fedjourney `--fast`",
    "ours": "fedjourney, defaults",
    "flower": "Flower, `flwr run`",
    "pfl-1": "pfl-research, 1 thread",
    "pfl-2": "pfl-research, 2 threads",
    "bare-eager": "bare loops, eager",
    "bare-compiled": "bare loops, compiled",
    "simulate": "`fedjourney simulate`",
}


def rate(measurement: Measurement) -> float:
    """Return examples a second in the steady state: rounds after the warm-up, summed over processes."""
    warmup = measurement["warmup"]
    return sum(
        track["samples"] * (len(track["stamps"]) - warmup) / (track["stamps"][-1] - track["stamps"][warmup - 1])
        for track in measurement["tracks"]
    )


def samples(measurement: Measurement) -> int:
    """Return the examples of one round."""
    return sum(track["samples"] for track in measurement["tracks"])


def round_seconds(measurement: Measurement) -> float:
    """Return the seconds of a round in the steady state."""
    return samples(measurement) / rate(measurement)


def startup(measurement: Measurement) -> float:
    """Return the seconds from the command to the end of the first round, less what a round takes later."""
    first = max(track["stamps"][0] for track in measurement["tracks"])
    return first - measurement["launched"] - round_seconds(measurement)


def good(measured: Measured, model: str, system: str) -> dict[int, Measurement]:
    """Return repetition -> what was measured there without error."""
    found = (m for m in measured if (m["model"], m["system"]) == (model, system) and "tracks" in m and "error" not in m)
    return {m["repetition"]: m for m in found}


def best(measured: Measured, model: str, peer: str) -> str | None:
    """Return the peer's variant of the highest median rate, None where none was measured."""
    rates = {name: [rate(m) for m in good(measured, model, name).values()] for name in PEERS[peer]}
    return max((name for name in rates if rates[name]), key=lambda name: median(rates[name]), default=None)


def ratios(measured: Measured, model: str, ours: str, peer: str) -> list[float]:
    """Return for each repetition how many times the peer's rate ours was; both stem from the same turn."""
    name = best(measured, model, peer)
    if name is None:
        return []
    theirs, own = good(measured, model, name), good(measured, model, ours)
    return [rate(own[turn]) / rate(theirs[turn]) for turn in sorted(own) if turn in theirs]


def said(value: float) -> str:
    """Return a ratio or a number of seconds in three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(found: list[float], goal: float | None) -> str:
    if not found:
        return "–"
    text = f"**{said(median(found))}x** ({said(min(found))}–{said(max(found))})"
    if goal is None:
        return text
    return f"{text}, ≥ {goal:g}x {'reached' if median(found) >= goal else 'missed'}"


def rows(measured: Measured) -> list[tuple[str, str, str, dict[str, float]]]:
    """Return the table's rows: title, model, system of ours, goals."""
    found = []
    for model in GOALS:
        if model != "simulate" and any(m["model"] == model for m in measured):
            on_cpu = {m.get("device", "cpu") for m in measured if m["model"] == model} == {"cpu"}
            goals = {} if model == "cifar" and on_cpu else GOALS[model]
            found.append((f"{TITLES[model]}, `--fast`", model, "ours-fast", goals))
            found.append((f"{TITLES[model]}, defaults", model, "ours", {}))
    if any(m["system"] == "simulate" for m in measured):
        found.append((TITLES["simulate"], "lenet", "simulate", {"flower": GOALS["simulate"]["flower"]}))
    return found


def markdown(told: dict[str, Any]) -> str:
    """Return `bench.md`: ratios, then what every system did, then where and how."""
    measured: Measured = told["measurements"]
    lines = [
        "# How fast",
        "",
        "How many times a peer's rate ours is: median (least–most) over the turns of one run.",
        "",
    ]
    lines += [
        "| clients' model | " + " | ".join(f"vs {PEER_TITLES[peer]}" for peer in PEERS) + " |",
        "|---|---|---|---|",
    ]
    for title, model, system, goals in rows(measured):
        shown = [peer for peer in PEERS if system != "simulate" or peer in goals]
        cells = [
            _cell(ratios(measured, model, system, peer), goals.get(peer)) if peer in shown else "–" for peer in PEERS
        ]
        missing = [m["missing"] for m in measured if m["system"] == system and m["model"] == model and "missing" in m]
        lines.append(f"| {title} | " + " | ".join([missing[0], "–", "–"] if missing else cells) + " |")
    for model, work in told["works"].items():
        lines += ["", f"## {TITLES[model]}", "", _sizes(work), ""]
        lines += ["| system | seconds a round | examples a second | start-up, first | later | note |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [line for system in SYSTEM_TITLES for line in _details(measured, model, system)]
    return "\n".join([*lines, "", *_where(told), ""])


def _sizes(work: dict[str, Any]) -> str:
    passes = f"E = {work['epochs']}, B = {work['batch']}" if work["epochs"] else "nothing is done with them"
    return (
        f"{work['clients']:,} clients x {work['examples']} examples, {work['cohort']} a round, {passes}; "
        f"{work['rounds']} rounds after {work['warmup']} that do not count; {work['workers']} workers."
    )


def _details(measured: Measured, model: str, system: str) -> list[str]:
    every = [m for m in measured if (m["model"], m["system"]) == (model, system)]
    if not every:
        return []
    found = list(good(measured, model, system).values())
    notes = {m.get("missing") or m.get("error") or m.get("note") or "" for m in every} - {""}
    cells = ["–"] * 4
    if found:
        later = [startup(m) for m in found[1:]]
        cells = [
            f"{median(map(round_seconds, found)):.4g}",
            f"{median(map(rate, found)):,.0f}",
            f"{startup(found[0]):.1f} s",
            f"{median(later):.1f} s" if later else "–",
        ]
    return [f"| {SYSTEM_TITLES[system]} | " + " | ".join([*cells, "; ".join(sorted(notes))]) + " |"]


def _where(told: dict[str, Any]) -> list[str]:
    machine, busy = told["machine"], [m["busy"] for m in told["measurements"] if m.get("busy") is not None]
    lines = ["## Where", "", f"{told['made']}, {told['repetitions']} turns. {machine['processor']}, "]
    lines[-1] += f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, {machine['isa']}. "
    lines[-1] += ", ".join(f"{name} {version}" for name, version in told["versions"].items()) + "."
    if busy:
        lines[-1] += f" Busy with other things before a measurement: at most {max(busy):.0%} of the machine."
    return [*lines, "", f"`{told['command']}`"]
