"""Replay equals live to the bit, whoever missed what; and everybody is charged for what brings them up to date."""

from typing import Any

import pytest
import torch
from evolution_quadratic import Federation, sampled

from fedjourney.strategies._replay import group, kept
from fedjourney.tensors import Tensors
from fedjourney.wire import encoded_size

LARGE = {"w": (20, 30), "b": (7,)}
REPLAYED: list[tuple[str, dict[str, Any]]] = [
    ("open_es", {"population": 8}),
    ("open_es", {"population": 8, "optimizer": "sgd", "utility": "raw", "shaping": "client", "noise": "gaussian"}),
    ("snes", {"population": 8}),
    ("snes", {"population": 8, "granularity": "layer"}),
    ("guided_es", {"population": 8, "subspace": 2}),
    ("evofed", {"population": 8, "blocks": 2}),
    ("sketch", {"directions": 4}),
    ("sketch_then_es", {"directions": 4, "switch": 4}),
    ("random_search", {"population": 8}),
    ("random_search", {"population": 8, "around": "start"}),
    ("decomfl", {"perturbations": 3, "local_steps": 2, "momentum": 0.5, "learning_rate": 0.01}),
    ("genetic", {"population": 8}),
    ("genetic", {"population": 8, "adaptation": "parameter", "selection": "tournament", "recombination": "layer"}),
    ("eggroll", {"population": 8, "rank": 2}),
]


def lost(round: int, client: int) -> bool:
    return (round * 7 + client * 3) % 5 == 0  # a fifth of the replies, after the client has worked


def play(name: str, options: dict[str, Any], shapes: dict[str, tuple[int, ...]], **more: Any) -> Federation:
    settings = {"clients": 8, "cohort": sampled(3, 8), "dtype": torch.float32, "shapes": shapes, "lost": lost}
    return Federation(name, options, **{**settings, **more}).play(9)


def same(left: Tensors, right: Tensors) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("shapes", [{"w": (2, 3), "b": (2,)}, LARGE], ids=["snapshots", "histories"])
@pytest.mark.parametrize(("name", "options"), REPLAYED, ids=lambda value: value if isinstance(value, str) else "")
def test_replay_is_live(name: str, options: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    told = play(name, {**options, "downlink": "model"}, shapes)
    replayed = play(name, {**options, "downlink": "fitness"}, shapes)
    assert same(replayed.params, told.params)
    assert replayed.took_part == told.took_part
    for (
        client,
        round,
    ) in replayed.took_part.items():  # the model each client found, missed rounds and lost replies or not
        assert same(group(kept(replayed.states[client]), "params/"), told.before[round])


@pytest.mark.parametrize("pro", [False, True])
def test_fedkseed_rebuilds_the_servers_model(pro: bool) -> None:
    federation = play("fedkseed", {"seeds": 32, "steps": 3, "pro": pro}, LARGE)
    start = federation.before[1]
    for client, round in federation.took_part.items():
        own = kept(federation.states[client])
        assert same(group(own, "start/"), start)
        rebuilt = federation.rounds._rebuild(torch.cat([t.reshape(-1) for t in start.values()]), own["sums"])  # type: ignore[attr-defined]
        assert torch.equal(rebuilt, torch.cat([t.reshape(-1) for t in federation.before[round].values()]))
    assert not same(federation.params, start)


def test_a_client_pays_for_what_it_missed_and_for_no_more() -> None:
    cohorts = {1: [0, 1], 2: [0], 3: [0], 4: [0, 1], 5: [2, 0]}
    federation = Federation(
        "open_es",
        {"population": 8, "downlink": "fitness", "optimizer": "sgd"},
        clients=3,
        cohort=cohorts.__getitem__,
        dtype=torch.float32,
        shapes=LARGE,
    ).play(5)
    model = {"start/w": torch.zeros(20, 30), "start/b": torch.zeros(7)}

    def history(rounds: int) -> Tensors:
        return {"rounds": torch.zeros(rounds, dtype=torch.int32), "news/weights": torch.zeros(rounds, 4)}

    nothing = encoded_size({})
    assert federation.down[1, 0, "train"] == nothing + encoded_size(model)  # P floats, once
    assert federation.down[2, 0, "train"] == nothing + encoded_size(history(1))
    assert federation.down[4, 1, "train"] == nothing + encoded_size(history(3))  # missed rounds 1 to 3's steps
    snapshot = {"params/w": torch.zeros(20, 30), "params/b": torch.zeros(7)}
    assert federation.down[5, 2, "train"] == nothing + encoded_size(snapshot)  # late: the model beats the history


def test_a_late_joiner_gets_the_history_where_it_is_less() -> None:
    # Adam's moments make the present model 3 P floats: the first model and four rounds are less
    federation = Federation(
        "open_es",
        {"population": 8, "downlink": "fitness"},
        clients=2,
        cohort=lambda round: [0] if round < 5 else [1],
        dtype=torch.float32,
        shapes=LARGE,
    ).play(5)
    assert federation.down[5, 1, "train"] < 4 * 607 + 500
    assert same(group(kept(federation.states[1]), "params/"), federation.before[5])


def test_history_is_dropped_once_the_model_is_less() -> None:
    federation = Federation("sketch", {"directions": 64}, clients=2, cohort=lambda round: [round % 2]).play(12)
    news = {name.split("/")[1] for name in federation.rounds.state if name.startswith("news/")}
    assert len(news) <= 1
    long = Federation("sketch", {"directions": 2}, clients=2, shapes=LARGE).play(12)
    assert len({name.split("/")[1] for name in long.rounds.state if name.startswith("news/")}) == 12


def test_fedkseed_sends_only_what_changed() -> None:
    federation = Federation("fedkseed", {"seeds": 4096, "steps": 3}, clients=2, shapes=LARGE, dtype=torch.float32)
    federation.play(3)
    changed = {"index": torch.zeros(6, dtype=torch.int16), "sums": torch.zeros(6)}
    assert federation.down[3, 0, "train"] <= encoded_size({}) + encoded_size(changed)
    assert federation.up[3, 0, "train"] < 6 * 3 + 200
    few = Federation("fedkseed", {"seeds": 4, "steps": 20}, clients=2, shapes=LARGE, dtype=torch.float32).play(3)
    assert few.down[3, 0, "train"] == encoded_size({}) + encoded_size({"sums": torch.zeros(4)})


def test_a_client_that_sends_seeds_that_are_none_changes_nothing() -> None:
    federation = Federation("fedkseed", {"seeds": 16, "steps": 3})
    ask = federation.rounds.ask(1, federation.params, [0])
    cohort = federation.exchange(ask)
    cohort.rows[0]["index"] = torch.tensor([-1, 16, 99], dtype=torch.int16)
    assert same(federation.rounds.tell(1, federation.params, cohort), federation.params)  # type: ignore[arg-type]
