"""What clients answer on the second device, beside what they answer on the CPU; a process of its own runs this.

python second_device_runs.py      prints a line for each difference, and how many exchanges were compared
"""

import os
import sys
import tempfile
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from conftest import SMALL
from second_device import DEVICE
from strategy_options import ON_DIGITS
from task_options import TASKS

from fedjourney import config, plugins
from fedjourney.client import ClientSide
from fedjourney.exchange import Block, Exchange
from fedjourney.plan import Plan, plan
from fedjourney.seeds import seed_for
from fedjourney.storage import ClientStates

TWICE_WRAPPED = "eggroll"  # its low-rank weights are a class of tensors themselves, and PyTorch nests no two of them
CASES: list[tuple[Any, ...]] = [
    (name, ON_DIGITS.get(name, {}), 1) for name in plugins.names("strategy") if name != TWICE_WRAPPED
]
RECURRENT = (
    "forecast",
    "correlations",
    "next_character",
    "bandits",
    "in_context",
)  # their kernels are PyTorch's own choice for each device
CASES += [(name, {}, 1, task) for task in TASKS if task not in RECURRENT for name in ("fedavg", "open_es")]
CASES += [("fedavg", {}, 3), ("scaffold", {}, 3), ("ditto", {}, 3)]


def built(name: str, options: dict[str, object], lanes: int, task: str = "") -> Plan:
    if task:
        text = f"[experiment]\ncohort = 1.0\n{TASKS[task]}[numerics]\nlanes = {lanes}\n"
        return plan(config.parse(text, [f"strategy.name={name}"]))
    lines = "".join(f"{key} = {value!r}\n" for key, value in options.items())
    text = SMALL.replace("cohort = 4", "cohort = 8")
    return plan(config.parse(f'{text}[numerics]\nlanes = {lanes}\n[strategy]\nname = "{name}"\n{lines}'))


def on(device: torch.device, found: Plan) -> Plan:
    numerics = found.experiment["numerics"] | {"device": str(device)}
    return replace(found, experiment=replace(found.experiment, tables=found.experiment.tables | {"numerics": numerics}))


def exchanges(found: Plan) -> list[Exchange]:
    """Return the first exchange with clients, where they know nothing yet, and an evaluation of the model."""
    params = found.task.init(seed_for(0, "model"))
    ask = found.rounds.ask(1, params, [0, 1, 2])
    clients, like = list(ask.clients)[:3], found.rounds.like(params, ask.work)
    rows = list(ask.rows)[:3] if ask.rows is not None else []
    first = Exchange("train", 1, ask.work, ask.shared, clients, [-1] * len(clients), rows, like)
    return [first, Exchange("evaluate", 1, "evaluate", found.rounds.model(params), clients, [1] * len(clients))]


def differences(one: Block, other: Block) -> list[str]:
    said = []
    for ours, theirs in zip(one.answers, other.answers, strict=True):
        if ours.problem != theirs.problem:
            said.append(f"client {ours.client}: {theirs.problem} instead of {ours.problem}")
            continue
        if ours.metrics != theirs.metrics:
            said.append(f"client {ours.client}: other metrics")
        said += [n for n, t in ours.tensors.items() if not torch.equal(t, theirs.tensors[n])]
    if one.sums is not None and other.sums is not None:
        said += [name for name, t in one.sums.tensors.items() if not torch.equal(t, other.sums.tensors[name])]
    return said


def main() -> None:
    compared = 0
    for case in CASES:
        found = built(*case)
        with tempfile.TemporaryDirectory() as scratch:
            sides = [
                ClientSide(on(device, found), ClientStates(Path(scratch) / device.type))
                for device in (torch.device("cpu"), DEVICE)
            ]
            for exchange in exchanges(found):
                try:
                    blocks = [side.block(exchange) for side in sides]
                except Exception:
                    print(f"{case} {exchange.kind}: {traceback.format_exc()}")
                    continue
                compared += 1
                for difference in differences(*blocks):
                    print(f"{case[0]}, {case[2:]} lanes, {exchange.kind}: {difference}")
            here = found.score(found.task.init(0), "test", slice(0, 100))
            there = on(DEVICE, found).score(found.task.init(0), "test", slice(0, 100))
            assert all(torch.equal(here[name], there[name]) for name in here)
    print(f"{compared} exchanges compared")
    sys.stdout.flush()
    os._exit(0)  # a backend in Python does not outlive its interpreter well


main()
