"""Every evolution strategy reaches the optimum of a quadratic whose clients disagree."""

from typing import Any

import pytest
from evolution_quadratic import Federation

CASES: list[tuple[str, dict[str, Any], int, float]] = [  # options, rounds, share of the first gap that may be left
    ("open_es", {"population": 16, "learning_rate": 0.1}, 40, 0.03),
    ("open_es", {"population": 16, "utility": "raw", "optimizer": "sgd", "learning_rate": 0.3}, 40, 1e-6),
    ("open_es", {"population": 16, "shaping": "client", "utility": "z_scores", "learning_rate": 0.1}, 40, 0.05),
    ("snes", {"population": 16, "sigma": 0.3}, 40, 1e-3),
    ("snes", {"population": 16, "sigma": 0.3, "granularity": "layer"}, 40, 1e-3),
    ("guided_es", {"population": 16, "optimizer": "sgd", "learning_rate": 1.0}, 40, 1e-3),
    ("evofed", {"population": 16, "optimizer": "sgd", "learning_rate": 0.3}, 40, 1e-5),
    ("evofed", {"population": 16, "blocks": 4, "fitness": "distance", "utility": "ranks"}, 80, 0.05),
    ("sketch", {"directions": 8, "optimizer": "sgd", "learning_rate": 0.5}, 40, 1e-4),
    ("sparse", {"share": 0.25}, 60, 1e-3),
    ("sparse", {"share": 0.25, "optimizer": "adam", "learning_rate": 0.1}, 60, 0.03),
    ("sketch_then_es", {"directions": 8, "switch": 6, "learning_rate": 0.1, "evolution_learning_rate": 0.1}, 40, 0.05),
    ("random_search", {"population": 16, "sigma": 0.2}, 40, 0.03),
    ("decomfl", {"perturbations": 8, "learning_rate": 0.1}, 40, 1e-3),
    ("decomfl", {"perturbations": 4, "local_steps": 2, "learning_rate": 0.05, "momentum": 0.5}, 40, 1e-5),
    ("decomfl", {"perturbations": 8, "learning_rate": 0.1, "difference": "forward"}, 40, 1e-3),
    ("fedkseed", {"seeds": 64, "steps": 4, "learning_rate": 0.06}, 40, 0.03),
    ("fedkseed", {"seeds": 64, "steps": 4, "learning_rate": 0.06, "pro": True}, 40, 0.03),
    ("genetic", {"population": 16, "sigma": 0.2}, 40, 0.03),
    ("genetic", {"population": 16, "sigma": 0.2, "adaptation": "parameter", "recombination": "intermediate"}, 40, 0.01),
    (
        "genetic",
        {"population": 16, "sigma": 0.2, "adaptation": "layer", "recombination": "none", "selection": "tournament"},
        40,
        0.01,
    ),
    (
        "genetic",
        {"population": 16, "sigma": 0.2, "adaptation": "global", "recombination": "layer"}
        | {"selection": "fitness_weighted"},
        60,
        0.1,
    ),
    ("eggroll", {"population": 16, "optimizer": "sgd", "learning_rate": 0.3}, 40, 0.01),
    ("alternating", {"population": 16, "learning_rate": 0.05}, 40, 1e-3),
    ("fitness_weighted", {"sharpness": 0.0}, 30, 1e-9),
    ("esgd", {"population": 2, "sigma": 0.05}, 30, 0.01),
    ("evolved_weights", {"committee": 4}, 8, 0.01),
]


@pytest.mark.parametrize(("name", "options", "rounds", "left"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)])
def test_it_reaches_the_optimum(name: str, options: dict[str, Any], rounds: int, left: float) -> None:
    federation = Federation(name, options)
    before = federation.gap()
    assert federation.play(rounds).gap() < left * before


@pytest.mark.parametrize(("name", "options"), [(c[0], c[1]) for c in CASES], ids=range(len(CASES)))
def test_it_survives_one_client_lost_replies_and_is_the_same_again(name: str, options: dict[str, Any]) -> None:
    few = {"population": 1, "elite": 1, "parents": 1, "panel": 1} if name == "esgd" else {}
    alone = {**options, **few, **({"committee": 1} if name == "evolved_weights" else {})}

    def lost(round: int, client: int) -> bool:
        return round == 2 and client == 0

    one = Federation(name, alone, clients=1).play(2)
    assert all(bool(t.isfinite().all()) for t in one.params.values())
    twice = [Federation(name, options, lost=lost).play(3) for _ in range(2)]
    assert all(bool((twice[0].params[n] == twice[1].params[n]).all()) for n in one.params)
    assert twice[0].gap() != Federation(name, options).gap()
