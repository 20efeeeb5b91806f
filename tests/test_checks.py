"""What does not fit together ends before any work, in one message."""

from pathlib import Path

import numpy as np
import pytest

import fedjourney
from fedjourney import config
from fedjourney.errors import ConfigError, FedjourneyError, Interrupted, RunError
from fedjourney.plan import plan
from fedjourney.results import Checkpoint

HERE = Path(__file__).parent


def refused(text: str, *overrides: str, base_dir: Path | None = None) -> str:
    with pytest.raises(FedjourneyError) as error:
        plan(config.parse(text, overrides, base_dir=base_dir))
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("experiment.cohort=nan", ["cohort", "nan"]),
        ("numerics.threads=100000", ["threads", "1024"]),
        ("experiment.timeout='x'", ["[experiment] timeout", "got 'x'"]),
        ("model.hidden=[1000000000000]", ["[model] hidden.0", "less than or equal to 65536"]),
        ("strategy.name=.foo:bar", ["strategy", ".foo:bar"]),
        ("strategy.name=builtins:int", ["strategy"]),
        ("strategy.name=collections:OrderedDict", ["strategy"]),
        ("data.name=FILE", ['no data "FILE"']),
        ("data.name=DIGITS", ['Did you mean "digits"?']),
        ("experiment.name=a\nb", ["one line"]),
    ],
)
def test_settings(small: str, override: str, words: list[str]) -> None:
    said = refused(small, override)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("overlapping", "client 1"),
        ("beyond", "client 0"),
        ("fractions", "client 0"),
        ("nobody", "at least one client"),
        ("not_shards", "got int"),
        ("two_dimensional", "got ndarray"),
        ("unknown_annotation", "NoSuchType"),
    ],
)
def test_partitions_of_others(small: str, monkeypatch: pytest.MonkeyPatch, name: str, word: str) -> None:
    monkeypatch.syspath_prepend(HERE)
    text = small.replace('"dirichlet"\nclients = 8\nalpha = 0.5', f'"foreign:{name}"')
    assert word in refused(text, "experiment.cohort=1")


def test_an_option_may_be_none(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    text = small.replace('"dirichlet"\nclients = 8\nalpha = 0.5', '"foreign:optional"')
    experiment = config.parse(text, ["experiment.cohort=1"])
    assert config.parse(experiment.text()) == experiment


def test_data_of_others(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    assert "got a NoneType" in refused(small, "data.name=foreign:no_data")
    assert "expected tensors of one length" in refused(small, "data.name=foreign:unlike_lengths")
    assert "'image': 'ndarray'" in refused(small, "data.name=foreign:no_tensors")


def test_tasks_and_strategies_of_others(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    assert "numbers by name, got None" in refused(small, "task.name=foreign:says_nothing")
    assert '"train" among them, got {}' in refused(small, "strategy.name=foreign:NoHalves")
    for name, words in (("ForgetsParameters", "of the same names"), ("AsksTwice", "asked a client twice")):
        with pytest.raises(RunError, match=words):
            fedjourney.run(config.parse(small, [f"strategy.name=foreign:{name}"]), tmp_path / name)


def test_a_strategy_may_remember_plain_values(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)

    def stop(row: dict[str, object]) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt

    experiment = config.parse(small, ["strategy.name=foreign:Counts"])
    with pytest.raises(Interrupted):
        fedjourney.run(experiment, tmp_path / "a", watch=stop)
    whole, resumed = fedjourney.run(experiment, tmp_path / "b"), fedjourney.resume(tmp_path / "a")
    assert resumed.digest == whole.digest
    states = [Checkpoint.read(run.folder / "checkpoint.safetensors").strategy for run in (whole, resumed)]
    assert states[0]["rounds"] == 4
    assert [state | {"last": int(state["last"])} for state in states[:1]] == [
        state | {"last": int(state["last"])} for state in states[1:]
    ]


def test_transforms_that_cannot_follow_each_other_are_found_before_the_run(small: str) -> None:
    twice = '[[transform]]\nname = "topk"\n' * 2
    assert "must be the first [[transform]] that encodes" in refused(small + twice)


@pytest.mark.parametrize("name", ["decomfl", "evofed"])
def test_a_step_that_diverges_is_kept_out_and_told(small: str, tmp_path: Path, name: str) -> None:
    overrides = [f"strategy.name={name}", "strategy.learning_rate=1e300", "experiment.rounds=2"]
    result = fedjourney.run(config.parse(small, overrides), tmp_path / "run")
    assert {row["clients"].get("reason") for row in result.rounds[1:]} == {"the step gave NaN or infinity"}


def test_a_model_too_large_for_this_machine(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    said = refused(small.replace('"mlp"\nhidden = [16]', '"foreign:huge"'))
    assert "foreign:huge" in said
    assert "allocate memory" in said


def test_models_and_tasks_that_do_not_fit(small: str) -> None:
    lstm = small.replace('"mlp"\nhidden = [16]', '"lstm"')
    said = refused(lstm)
    assert '[model] "lstm" cannot be trained on [task] "classification"' in said
    assert "image [1, 8, 8] holds numbers, as gru, mlp and cnn read them (lstm does not)" in said
    topics = small.replace('"digits"', '"python_topics"').replace('"dirichlet"', '"iid"').replace("alpha = 0.5", "")
    topics += '[task]\nname = "next_character"\n'
    said = refused(topics)
    assert '[model] "mlp" cannot be trained on [task] "next_character"' in said
    assert "holds codes of characters, as lstm reads them" in said


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (np.ones((20, 3)) * 1e300, np.arange(20) % 2, "finite numbers"),
        (np.ones((20, 3)), np.arange(20) * 10**9, "classes"),
        (np.ones((20, 0)), np.arange(20) % 2, "at least one number"),
        (np.float64(3), np.arange(20) % 2, "single value"),
        (np.ones((20, 3)), np.ones((20, 1)), "one label per input"),
        (np.ones((20, 3)), np.where(np.arange(20) == 3, np.inf, 1.0), "got inf"),
    ],
)
def test_arrays(small: str, tmp_path: Path, x: np.ndarray, y: np.ndarray, word: str) -> None:
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    text = small.replace('"digits"', '"arrays"\npath = "mine.npz"')
    assert word in refused(text, base_dir=tmp_path)


def test_an_update_of_the_file_is_dropped_with_the_strategy_that_used_it(small: str) -> None:
    text = small + '[update]\nname = "sgd"\n'
    assert "Remove [update]" in refused(text + '[strategy]\nname = "open_es"\n')
    for override in ("strategy.name=open_es", ' strategy . name = "open_es"'):
        assert "update" not in config.parse(text, [override]).tables


def test_options_that_another_plug_in_lacks_go_with_the_one_that_had_them(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = small + '[strategy]\nname = "fedprox"\nmu = 0.5\nserver_learning_rate = 0.7\n'
    found = config.parse(text, ["strategy.name=fedavgm", "strategy.momentum=0.3"])["strategy"]
    assert found == {"name": "fedavgm", "momentum": 0.3, "server_learning_rate": 0.7}
    assert '[strategy] mu, which the file has for "fedprox", left out' in caplog.text
    assert "server_learning_rate = 0.7" in caplog.text
    assert config.parse(small, ["model.name=lenet"])["model"] == {"name": "lenet"}
    caplog.clear()  # an option of the same name, but of another kind: mlp's widths of layers, cnn's of one
    assert (
        config.parse(small, ["model.name=cnn"])["model"]["hidden"]
        == config.parse(small.replace('name = "mlp"\nhidden = [16]', 'name = "cnn"'))["model"]["hidden"]
    )
    assert "[model] hidden" in caplog.text
    assert config.parse(small, ["partition.name=iid"])["partition"] == {"name": "iid", "clients": 8}
    with pytest.raises(ConfigError, match='unknown option "mu"'):  # asked for in the same breath: a mistake
        config.parse(text, ["strategy.name=fedavgm", "strategy.mu=0.3"])
    with pytest.raises(ConfigError, match='no strategy "fedavgn"'):
        config.parse(text, ["strategy.name=fedavgn"])


def test_an_empty_value_takes_out_what_the_file_says(small: str) -> None:
    text = small + '[strategy]\nname = "fedprox"\nmu = 0.5\n'
    usual = config.parse(small, ["strategy.name=fedprox"])["strategy"]["mu"]
    assert usual != 0.5
    assert config.parse(text, ["strategy.mu="])["strategy"]["mu"] == usual
    assert config.parse(text, ["strategy.mu = "])["strategy"]["mu"] == usual
    assert "[strategy] name" in refused(text, "strategy.name=")
    for override in ("strategy.nu=", "update.momentum="):  # nothing to take out: a slip of the pen
        assert f"the file does not say {override[override.index('.') + 1 : -1]} in [" in refused(text, override)
    assert "It says: name, mu." in refused(text, "strategy.nu=")


def test_what_is_missing_is_explained(small: str) -> None:
    assert "names that stay at home" in refused(small, "strategy.name=fedper")
    said = refused(small, "partition.name=natural")
    assert "[partition] by: expected a value, got none. Add it. It is: the column" in said
    assert "or 0 for all of them, got 80. Lower clients." in refused(
        small, "partition.name=natural", "partition.by=label", "partition.clients=80"
    )


def test_a_file_may_begin_with_a_byte_order_mark(small: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + small.encode())
    assert config.load(tmp_path / "a.toml")["experiment"]["name"] == "small"
