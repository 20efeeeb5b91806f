"""A user's mistake ends before any work: exit status 2, one message, the place, and never a traceback."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedjourney.cli import main

Command = Callable[..., subprocess.CompletedProcess[str]]

MISTAKES = [
    # what is replaced in the small experiment, by what, words that the message must hold
    ('name = "small"', "name = small", ["not valid TOML"]),
    ("[experiment]", "[experimint]", ["unknown table [experimint]", 'Did you mean "experiment"?']),
    ("rounds = 4", "round = 4", ["[experiment]", 'unknown option "round"', 'Did you mean "rounds"?']),
    ('name = "digits"', 'name = "digit"', ["[data]", 'no data "digit"', 'Did you mean "digits"?']),
    ('name = "mlp"', 'name = "nowhere:Net"', ["[model]", 'importable "module:Name"']),
    ("rounds = 4", 'rounds = "four"', ["[experiment] rounds", "expected", "got 'four'"]),
    ("rounds = 4", "rounds = 0", ["[experiment] rounds", "greater than or equal to 1", "got 0"]),
    ("rounds = 4", "rounds = true", ["[experiment] rounds", "got True"]),
    ("cohort = 4", "cohort = 0", ["[experiment] cohort", "got 0"]),
    ("cohort = 4", "cohort = 1.5", ["[experiment] cohort", "got 1.5"]),
    ("cohort = 4", "cohort = 9", ["[experiment] cohort", "8 clients", "got 9"]),
    ("cohort = 4", "cohort = 4\nmin_replies = 5", ["[experiment] min_replies", "cohort of 4", "got 5"]),
    ("cohort = 4", "cohort = 4\ntimeout = -1.0", ["[experiment] timeout", "got -1.0"]),
    ("cohort = 4", "cohort = 4\nholdout = 1.0", ["[experiment] holdout", "below 1"]),
    ("cohort = 4", 'cohort = "all"', ["[experiment] cohort", "got 'all'"]),
    ('name = "small"', 'name = "a/b"', ["[experiment] name", "got 'a/b'"]),
    ("[engine]", '[strategy]\nname = "flwr.server.strategy:FedAvg"\n[engine]', ["[strategy] name", "Rounds"]),
    ('name = "mlp"\nhidden = [16]', 'name = "math:prod"', ["[model]"]),
    ("clients = 8", "clients = 0", ["[partition] clients", "got 0"]),
    ("clients = 8", "clients = 5000", ["[partition]", "5000"]),
    ("alpha = 0.5", "alpha = -0.5", ["[partition] alpha", "got -0.5"]),
    ("alpha = 0.5", "alpha = nan", ["[partition] alpha", "nan"]),
    ("hidden = [16]", "hidden = [16, -1]", ["[model] hidden.1", "got -1"]),
    ("hidden = [16]", "widths = [16]", ["[model]", 'unknown option "widths"']),
    ('name = "mlp"\nhidden = [16]', 'name = "lenet"', ["[model]", "lenet", "[1, 8, 8]"]),
    ('name = "mlp"\nhidden = [16]', "", ["[model] name"]),
    ('name = "serial"', 'name = "serial"\nworkers = 2', ["[engine]", 'unknown option "workers"', "none"]),
    ('name = "serial"', 'name = "local"\nworkers = -1', ["[engine] workers", "got -1"]),
    ("[engine]", '[update]\nname = "sgd"\nlearning_rate = -0.1\n[engine]', ["[update] learning_rate", "got -0.1"]),
    ("[engine]", '[task]\nname = "classification"\nbatch_size = 0\n[engine]', ["[task] batch_size", "got 0"]),
    (
        "[engine]",
        '[task]\nname = "classification"\nbatch_size = 9223372036854775808\n[engine]',
        ["[task] batch_size", "less than or equal to 1000000"],
    ),
    ("[engine]", '[task]\nname = "next_character"\n[engine]', ["[task] next_character", "classification"]),
    ("[engine]", '[strategy]\nname = "fedper"\npersonal = []\n[engine]', ["[strategy] personal", "got []"]),
    ("[engine]", '[strategy]\nname = "open_es"\npopulation = 7\n[engine]', ["[strategy] population", "multiple of 2"]),
    (
        "[engine]",
        '[update]\nname = "sgd"\n[strategy]\nname = "open_es"\n[engine]',
        ["[update] is set", "open_es", "Remove [update]"],
    ),
    ("[engine]", '[strategy]\nname = "open_es"\n[[transform]]\nname = "half"\n[engine]', ["[[transform]]", "open_es"]),
    ("[engine]", '[[transform]]\nname = "halve"\n[engine]', ["[transform]", 'Did you mean "half"?']),
    ("[engine]", "transform = 3\n[engine]", ["transform"]),
    ("[engine]", '[numerics]\ndtype = "float16"\n[engine]', ["[numerics] dtype", "float32", "float16"]),
]


@pytest.mark.parametrize(("old", "new", "words"), MISTAKES, ids=[str(n) for n in range(len(MISTAKES))])
def test_mistakes_in_a_file(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: list[str]
) -> None:
    from fedjourney.cli import main

    assert old in small
    file = tmp_path / "mistake.toml"
    file.write_text(small.replace(old, new))
    assert main(["run", str(file), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for word in words:
        assert word in said.err
    assert not (tmp_path / "run").exists()


def test_mistakes_on_the_command_line(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fedjourney.cli import main

    file = tmp_path / "small.toml"
    file.write_text(small)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for arguments, words in [
        (["run", tmp_path / "smal.toml"], ["no such file", 'Did you mean "small.toml"?']),
        (["run", tmp_path], ["cannot be read"]),
        (["run", file, "--set", "rounds=3"], ["--set", "table.key=value"]),
        (["run", file, "--set", "experimet.rounds=3"], ['Did you mean "experiment"?']),
        (["run", file, "--engine", "lokal"], ['Did you mean "local"?']),
        (["run", file, "--seed", "-1"], ["[experiment] seed", "got -1"]),
        (["run", file, "--data-dir", tmp_path / "none"], ["--data-dir", "found none"]),
        (["run", file, "--data-dir", ""], ["--data-dir", "got an empty text"]),
        (["compare", file, "--data-dir", tmp_path / "none"], ["--data-dir", "found none"]),
        (["run", file, "--out", tmp_path / "used"], ["one in use", "fedjourney resume"]),
        (["resume", tmp_path / "none"], ["expected a run folder"]),
        (["report", tmp_path / "none"], ["none"]),
        (["list", "modell"], ['Did you mean "model"?']),
        (["show", tmp_path / "none.toml"], ["no such file"]),
    ]:
        assert main([str(argument) for argument in arguments]) == 2, arguments
        said = capsys.readouterr().err
        for word in words:
            assert word in said, (arguments, said)


def test_mistakes_in_data(small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fedjourney.cli import main

    x, y = np.random.default_rng(0).normal(size=(100, 4)), np.arange(100) % 3
    broken = x.copy()
    broken[3, 2] = np.nan
    np.savez(tmp_path / "nan.npz", x=broken, y=y)
    np.savez(tmp_path / "negative.npz", x=x, y=y - 1)
    np.savez(tmp_path / "lengths.npz", x=x, y=y[:50])
    np.savez(tmp_path / "fraction.npz", x=x, y=y + 0.5)
    (tmp_path / "empty.npz").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.csv").write_text("a,b,label\n1,x,0\n2,y,1\n")
    (tmp_path / "column.csv").write_text("a,b,labels\n1,2,0\n2,3,1\n")
    for name, words in [
        ("nan.npz", ["NaN"]),
        ("negative.npz", ["-1"]),
        ("lengths.npz", ["100", "50"]),
        ("fraction.npz", ["label"]),
        ("empty.npz", ["empty.npz"]),
        ("empty.csv", ["empty.csv"]),
        ("text.csv", ["text.csv"]),
        ("column.csv", ["label"]),
        ("none.npz", ["none.npz"]),
    ]:
        text = small.replace('name = "digits"', f'name = "arrays"\npath = "{tmp_path / name}"')
        (tmp_path / "bad.toml").write_text(text)
        assert main(["run", str(tmp_path / "bad.toml"), "--out", str(tmp_path / "run")]) == 2, name
        said = capsys.readouterr().err
        for word in words:
            assert word in said, (name, said)
        assert not (tmp_path / "run").exists()


def test_a_missing_data_set_says_how_to_get_it(small: str, tmp_path: Path, fedjourney_command: Command) -> None:
    (tmp_path / "mnist.toml").write_text(small.replace('"digits"', '"huggingface"\nset = "ylecun/mnist"'))
    arguments = ["run", tmp_path / "mnist.toml", "--data-dir", tmp_path]
    failed = fedjourney_command(arguments, env={"HF_HUB_OFFLINE": "1", "FEDJOURNEY_DATA": ""})
    assert failed.returncode == 2
    assert "--data-dir" in failed.stderr
    assert "FEDJOURNEY_DATA" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_another_engine_drops_the_options_of_the_files(small: str) -> None:
    from fedjourney import config

    text = small.replace('name = "serial"', 'name = "local"\nworkers = 2')
    assert config.parse(text, engine="serial")["engine"] == {"name": "serial"}
    assert config.parse(text, engine="local")["engine"] == {"name": "local", "workers": 2, "memory": 0}


@pytest.mark.parametrize(
    "command", ["run x.toml", "resume x", "report x", "compare x.toml", "list", "show x", "simulate x"]
)
def test_an_unknown_flag_is_refused_with_the_usage_of_its_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--unknown"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: fedjourney {command.split()[0]} ")
    assert "unrecognized arguments: --unknown" in said


def test_a_flag_that_cannot_be_read_says_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("-1", "two", "1.5", ""):
        with pytest.raises(SystemExit) as ended:
            main(["compare", "x.toml", f"--workers={text}"])
        assert ended.value.code == 2
        assert f"--workers: expected a whole number, 0 or more, got {text!r}" in capsys.readouterr().err
