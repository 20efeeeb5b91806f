"""What clients evaluate, counted by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import RecordDict

import fedjourney
from fedjourney import config, messages
from fedjourney.batching import Batch, gradient
from fedjourney.exchange import Answer
from fedjourney.tally import Computed, Tally

SIZES = """
[data]
name = "digits"
[partition]
name = "iid"
clients = 3
[model]
name = "mlp"
hidden = [4]
[engine]
name = "serial"
[task]
name = "classification"
batch_size = 7
"""


def counted(text: str, tmp_path: Path, **experiment: Any) -> tuple[list[tuple[int, int]], int]:
    """Return (gradients, forwards) of each round, and how many training examples all clients hold together."""
    options = {"rounds": 2, "holdout": 0.0} | experiment
    head = "[experiment]\n" + "\n".join(f"{key} = {value}" for key, value in options.items()) + "\n"
    result = fedjourney.run(config.parse(head + text), tmp_path / "run")
    rows = [row for row in result.rounds if row["round"]]
    examples = sum(json.loads((tmp_path / "run" / "partition.json").read_text())["sizes"])
    return [(row["gradients"], row["forwards"]) for row in rows], examples


@pytest.mark.parametrize("lanes", [1, 2])
def test_averaging_takes_a_gradient_of_every_example_every_epoch(tmp_path: Path, lanes: int) -> None:
    text = SIZES + f'[update]\nname = "sgd"\nepochs = 2\n[numerics]\nlanes = {lanes}\n'
    found, examples = counted(text, tmp_path)
    assert found == [(2 * examples, 0)] * 2


def test_a_strategy_that_takes_two_gradients_a_step_pays_for_both(tmp_path: Path) -> None:
    found, examples = counted(SIZES + '[strategy]\nname = "apfl"\n[numerics]\nlanes = 3\n', tmp_path)
    assert found == [(2 * examples, 0)] * 2


def test_equal_steps_count_equal_batches(tmp_path: Path) -> None:
    found, _ = counted(SIZES.replace("batch_size = 7", "batch_size = 7\nsteps = 4"), tmp_path)
    assert found == [(3 * 4 * 7, 0)] * 2


def test_evolution_pays_a_forward_for_every_candidate(tmp_path: Path) -> None:
    found, _ = counted(SIZES + '[strategy]\nname = "open_es"\npopulation = 10\n', tmp_path)
    assert found == [(0, 3 * 10 * 7)] * 2


def test_low_rank_evolution_is_scored_in_its_own_way_and_counted_the_same(tmp_path: Path) -> None:
    found, _ = counted(SIZES + '[strategy]\nname = "eggroll"\npopulation = 10\n', tmp_path)
    assert found == [(0, 3 * 10 * 7)] * 2


def test_a_loss_without_gradient_is_a_forward(tmp_path: Path) -> None:
    found, examples = counted(SIZES + '[strategy]\nname = "qfedavg"\n', tmp_path)
    assert found == [(examples, examples)] * 2


def test_a_gradient_counts_three_forwards_and_padding_none() -> None:
    tally, batch = Tally(), Batch({}, {}, torch.tensor([1.0, 1.0, 0.0]), torch.tensor(0))
    for _ in range(2):
        with tally.watching():  # whoever takes it
            gradient(lambda params, batch: (params["p"] * 2).sum(), {"p": torch.ones(1)}, batch)
    gradient(lambda params, batch: (params["p"] * 2).sum(), {"p": torch.ones(1)}, batch)
    assert tally.computed == Computed(gradients=4, forwards=0)
    assert tally.computed.total == 12
    tally.forget()
    assert tally.computed == Computed()


def test_lanes_that_fail_are_not_paid_for_twice(tmp_path: Path) -> None:
    text = SIZES + '[update]\nname = "faulty:raising"\n'
    alone, _ = counted(text, tmp_path / "alone")
    lanes, examples = counted(text + "[numerics]\nlanes = 3\n", tmp_path / "lanes")
    assert alone == lanes == [(examples, 0)] * 2


def test_counts_travel_with_answers() -> None:
    content: RecordDict = messages.write_answers([Answer(4, {}, {"num-examples": 1.0}, computed=Computed(3, 5))])
    assert messages._answer(content, 4).computed == Computed(3, 5)
