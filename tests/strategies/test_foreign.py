"""Flower's strategies and those derived from them, by name: our cohorts, checkpoints and records."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

import fedjourney
from fedjourney import config, remembered
from fedjourney.errors import ConfigError, RunError

FLOWER = "flwr.serverapp.strategy"


def text(small: str, name: str, options: str = "", rounds: int = 2, update: str = "") -> str:
    few = small.replace("cohort = 4", "cohort = 7\nevaluate_every = 0").replace("rounds = 4", f"rounds = {rounds}")
    few += '[task]\nname = "classification"\nbatch_size = 50\n[numerics]\ndtype = "float64"\n'
    return f'{few}{update}[strategy]\nname = "{name}"\n{options}'


@pytest.mark.parametrize(
    ("theirs", "options", "ours", "same"),
    [
        ("FedAvg", "", "fedavg", ""),
        ("FedAvgM", "server_momentum = 0.7\nserver_learning_rate = 0.5\n", "fedavgm",
         "momentum = 0.7\nserver_learning_rate = 0.5\n"),
        # without momenta, for its correction of them is not the paper's
        ("FedAdam", "eta = 0.01\nbeta_1 = 0.0\nbeta_2 = 0.0\n", "fedadam",
         "learning_rate = 0.01\nbeta_1 = 0.0\nbeta_2 = 0.0\ninitial = 0.0\n"),
        ("FedProx", "proximal_mu = 0.5\n", "fedprox", "mu = 0.5\n"),
        ("FedMedian", "", "median", ""),
        ("FedTrimmedAvg", "beta = 0.3\n", "trimmed_mean", "share = 0.3\n"),
        # its distances are of whole models; in double precision they are those of the updates
        ("Krum", "num_malicious_nodes = 2\n", "krum", "byzantine = 2\n"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("Fed") else "",
)  # fmt: skip
def test_flowers_own_by_name_is_ours(
    theirs: str, options: str, ours: str, same: str, small: str, tmp_path: Path
) -> None:
    update = '[update]\nname = "sgd"\nepochs = 2\n'
    one = fedjourney.run(config.parse(text(small, f"{FLOWER}:{theirs}", options, update=update)), tmp_path / "a")
    two = fedjourney.run(config.parse(text(small, ours, same, update=update)), tmp_path / "b")
    for name, tensor in two.parameters.items():
        torch.testing.assert_close(one.parameters[name], tensor, rtol=0, atol=1e-9)
    for mine, own in zip(one.rounds, two.rounds, strict=True):
        assert mine["clients"] == own["clients"]
        assert mine["train"].keys() == own["train"].keys()


def test_a_run_that_stopped_goes_on_with_what_a_strategy_declares(small: str, tmp_path: Path) -> None:
    update = '[update]\nname = "faulty:raising"\n'
    said = text(small, "flowers:Noisy", "scale = 0.01\n", rounds=4, update=update).replace("float64", "float32")
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    whole = fedjourney.run(config.parse(said), tmp_path / "whole")
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]
    assert any(row["clients"]["failed"] for row in whole.rounds[1:])

    def stop(row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fedjourney.run(config.parse(said), tmp_path / "stopped", watch=stop)
    assert fedjourney.resume(tmp_path / "stopped").digest == whole.digest


def test_one_that_does_not_say_what_it_remembers_is_not_resumed(small: str, tmp_path: Path) -> None:
    def stop(row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise RuntimeError

    said = config.parse(text(small, "flowers:Forgetful", "every = 2\n", rounds=3))
    with pytest.raises(RuntimeError):
        fedjourney.run(said, tmp_path / "run", watch=stop)
    with pytest.raises(RunError, match=r"cannot be resumed after round 2.*checkpointed"):
        fedjourney.resume(tmp_path / "run")
    whole = fedjourney.run(said, tmp_path / "whole")
    assert fedjourney.resume(tmp_path / "whole").digest == whole.digest  # a finished run is read, not resumed


def test_whom_it_asks_of_the_cohort_is_its_own_affair(small: str, tmp_path: Path) -> None:
    rounds = fedjourney.run(config.parse(text(small, "flowers:Half")), tmp_path / "run").rounds
    assert [row["clients"]["asked"] for row in rounds[1:]] == [3, 3]
    alone = text(small, f"{FLOWER}:FedAvg").replace("cohort = 7", "cohort = 1")
    assert fedjourney.run(config.parse(alone), tmp_path / "one").rounds[-1]["clients"]["answered"] == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (f"{FLOWER}:FedAvg", "fraction_train = 0.5", "fraction_train: the cohort is drawn by [experiment] cohort"),
        (f"{FLOWER}:Krum", "num_malicious_nodes = 1.5", "num_malicious_nodes: expected integer, got 1.5"),
        (f"{FLOWER}:FedTrimmedAvg", "beta = 0.7", "beta"),
        (f"{FLOWER}:QFedAvg", "", "client_learning_rate: expected a value, got none"),
        (f"{FLOWER}:DifferentialPrivacyServerSideFixedClipping", "", "needs strategy, which no TOML file can give"),
        (f"{FLOWER}:FedXgbBagging", "", "raised in configure_train"),
        (f"{FLOWER}:Strategy", "", "is abstract"),
        ("flwr.server.strategy:FedAvg", "", "derived from fedjourney.strategies.Rounds, or from Flower's"),
        ("flowers:Teaching", "", "config that nothing here reads: lr"),
        ("flowers:Waiting", "", "it waits for more nodes than the 7 of [experiment] cohort"),
        ("flowers:Starting", "", "has a start of its own"),
        ("flowers:Noisy", "scale = 0.0\nevery = 2", 'unknown option "every"'),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    name: str, options: str, said: str, small: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        fedjourney.run(config.parse(text(small, name, f"{options}\n")), tmp_path / "run")
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_is_never_called_is_said(
    small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flowers

    monkeypatch.setattr(flowers.Half, "aggregate_evaluate", lambda self, *_: None, raising=False)
    with caplog.at_level(logging.WARNING, "fedjourney"):
        fedjourney.run(config.parse(text(small, "flowers:Half", rounds=2)), tmp_path / "run")
    assert [record.message.count("aggregate_evaluate is never called") for record in caplog.records] == [1]


def test_what_is_remembered_comes_back_as_it_was() -> None:
    values = {
        "none": None,
        "numbers": (1, 2.5, float("inf"), True, np.float32(0.1)),
        "nested": {"a": [np.arange(3), {"b": "text"}], 3: np.array(7, dtype=np.int16)},
        "tensor": torch.ones(2, dtype=torch.bfloat16),
        "record": ArrayRecord({"w": Array(np.eye(2))}),
    }
    back = remembered.unpacked(remembered.packed(values))
    assert back["none"] is None
    assert back["numbers"] == values["numbers"]
    assert type(back["numbers"][4]) is np.float32
    assert back["nested"]["a"][0].tolist() == [0, 1, 2]
    assert back["nested"]["a"][1] == {"b": "text"}
    assert (back["nested"][3].dtype, int(back["nested"][3])) == (np.int16, 7)
    assert torch.equal(back["tensor"], values["tensor"])  # type: ignore[arg-type]
    assert back["record"] == values["record"]
    with pytest.raises(TypeError, match="function is none of"):
        remembered.packed({"function": lambda: 0} | {"function": test_what_is_remembered_comes_back_as_it_was})
