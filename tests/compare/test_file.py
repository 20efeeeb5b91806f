"""The comparison file: what it means, and every mistake in words before any work."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedjourney import comparison
from fedjourney.cli import main
from fedjourney.comparison.design import Budget, Range
from fedjourney.comparison.file import parse
from fedjourney.errors import ConfigError


def test_arms_change_the_base_and_scenarios_what_all_arms_see(tables: dict[str, Any]) -> None:
    found = parse(tables)
    one = found.experiment("evolution", "skew", seed=7)
    assert one["strategy"]["name"] == "open_es"
    assert (one["partition"]["name"], one["partition"]["alpha"]) == ("dirichlet", 0.3)
    assert (one.seed, one.rounds, one["engine"]["name"]) == (7, 3, "serial")
    assert "update" not in one.tables  # the base's is for those who take gradient steps
    averaging = found.experiment("averaging", "iid", seed=7)
    assert averaging["update"]["learning_rate"] == 0.2
    assert found.budgets == (Budget("rounds", 3), Budget("bytes", 12_000))


def test_a_base_can_be_an_experiments_file(tmp_path: Path, tables: dict[str, Any]) -> None:
    (tmp_path / "base.toml").write_text(
        '[experiment]\nname = "other"\nrounds = 9\n[data]\nname = "digits"\n[model]\nname = "mlp"\n'
    )
    tables["base"] = {"config": "base.toml", "model": {"hidden": [4]}}
    one = parse(tables, base_dir=tmp_path).experiment("averaging", "iid", 0)
    assert (one.rounds, one["model"]["hidden"]) == (9, [4])


def test_a_file_knows_the_command_that_goes_on_with_it(file: Path) -> None:
    command = comparison.load(file, ["comparison.seeds=[0, 1]", "base.experiment.rounds=2"]).command
    said = shlex.split(command)
    assert said[:3] == ["fedjourney", "compare", str(file)]
    assert said[3:] == ["--set", "comparison.seeds=[0, 1]", "--set", "base.experiment.rounds=2"]


def test_trials_are_log_uniform_common_to_arms_and_whole_where_the_ends_are(tables: dict[str, Any]) -> None:
    tables["tuning"] = {"trials": 4, "seeds": [100]}
    tables["arms"]["averaging"]["tune"] = {"update.learning_rate": [0.01, 1.0], "update.epochs": [1, 8]}
    tables["arms"]["sketched"]["tune"] = {"update.learning_rate": [0.01, 1.0]}
    found = parse(tables)
    assert found.setting("averaging", 0) == {}
    for trial in range(1, 5):
        mine, other = found.setting("averaging", trial), found.setting("sketched", trial)
        assert mine["update.learning_rate"] == other["update.learning_rate"]
        assert isinstance(mine["update.epochs"], int)
        assert 1 <= mine["update.epochs"] <= 8
        resolved = found.experiment("averaging", "iid", 0, mine)
        assert resolved["update"]["learning_rate"] == mine["update.learning_rate"]
    assert Range(0.01, 1.0).at(0.5) == pytest.approx(0.1)
    assert (Range(0.01, 1.0).at(0.0), Range(2, 8).at(1.0)) == (0.01, 8)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("comparision", {}, r'unknown table \[comparision\]. There are: comparison, .* Did you mean "comparison"'),
        ("comparison.seed", [1], 'unknown option "seed". .* Did you mean "seeds"'),
        ("comparison.seeds", [1, 1], "all different"),
        ("comparison.reference", "averagin", 'no arm "averagin". .* Did you mean "averaging"'),
        ("comparison.only", ["evolutin"], 'only: no arm "evolutin". .* Did you mean "evolution"'),
        ("comparison.only", ["evolution"], "expected evolution's twin too, got it without sketched"),
        ("budget", {}, "expected rounds, bytes or evaluations"),
        ("budget.byte", [1], 'unknown option "byte". .* Did you mean "bytes"'),
        ("budget.rounds", [0], "greater than 0"),
        ("base.strategyy", {"name": "fedavg"}, 'Did you mean "strategy"'),
        ("base.experiment.seed", 3, "seeds say it"),
        ("base.engine", {"name": "local"}, "unknown table engine"),
        ("arms", {}, "expected one arm or more"),
        ("arms", {"alone": {"beside": "floor"}}, "got none but those beside"),
        ("arms.sketched.beside", "floor", r'twin: no arm "sketched"'),
        ("arms.averaging.metric", "personal/accuracy", 'expected "personal/…" of an arm with beside'),
        ("arms.evolution.twin", "sketchd", 'no arm "sketchd". .* Did you mean "sketched"'),
        ("arms.evolution.strategy.name", "open_se", 'no strategy "open_se"'),
        ("arms.evolution.strategy.populaton", 4, r'\[arms.evolution\] .* Did you mean "population"'),
        ("arms.evolution.update", {"name": "sgd"}, "does not use it"),
        ("arms.averaging.tune", {"update.learning_rate": [0.1, 1.0]}, r"expected \[tuning\]"),
        ("scenarios.skew.partition.alpha", -1.0, "greater than 0"),
        ("scenarios.a/b", {}, "it names a folder"),
        ("claim", [{"name": "a", "arms": ["averaging"]}], "expected two arms, or one with between"),
        ("claim", [{"name": "a", "arms": ["averaging", "evolutin"]}], 'Did you mean "evolution"'),
        ("claim", [{"name": "a", "arms": ["averaging", "evolution"], "direction": "equal"}], 'still "equal"'),
        ("claim", [{"name": "a", "arms": ["averaging", "evolution"], "ratio": 2.0}], "Take margin"),
        ("claim", [{"name": "a", "arms": ["averaging", "evolution"], "budget": {"bytes": 5}}], "Add it"),
        ("claim", [{"arms": ["averaging", "evolution"]}], "name"),
    ],
)
def test_mistakes(tables: dict[str, Any], place: str, value: Any, said: str) -> None:
    *path, key = place.split(".")
    target = tables
    for one in path:
        target = target.setdefault(one, {})
    target[key] = value
    with pytest.raises(ConfigError, match=said):
        parse(tables, where="a.toml: ")


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"update.learning_rat": [0.1, 1.0]}, 'Did you mean "learning_rate"'),
        ({"updat.learning_rate": [0.1, 1.0]}, r"no table \[updat\]"),
        ({"update.learning_rate": [1.0, 0.1]}, "0 < low < high"),
        ({"update.epochs": [0.5, 2.0]}, "epochs"),
    ],
)
def test_mistakes_of_ranges(tables: dict[str, Any], tune: dict[str, Any], said: str) -> None:
    tables["tuning"] = {"trials": 2, "seeds": [100]}
    tables["arms"]["averaging"]["tune"] = tune
    with pytest.raises(ConfigError, match=said):
        parse(tables)


def test_tuning_seeds_are_not_those_of_the_evaluation(tables: dict[str, Any]) -> None:
    tables["tuning"] = {"seeds": [5, 1]}
    with pytest.raises(ConfigError, match=r"expected none of \[comparison\] seeds, got 1"):
        parse(tables)


def test_no_end_is_a_mistake(tables: dict[str, Any]) -> None:
    tables["budget"] = {"bytes": [1000]}
    with pytest.raises(ConfigError, match=r"experiment\.rounds"):
        parse(tables)


def test_arms_that_do_not_begin_alike_are_refused_before_any_work(tables: dict[str, Any]) -> None:
    tables["arms"]["averaging"]["model"] = {"hidden": [9]}
    with pytest.raises(ConfigError, match="evolution does not begin as averaging does"):
        comparison.check(parse(tables))
    tables["arms"]["averaging"]["paired"] = False
    comparison.check(parse(tables))


def test_a_model_of_ones_own_is_measured_where_there_is_one(tables: dict[str, Any]) -> None:
    tables["arms"]["alone"] = {"beside": "floor", "metric": "personal/accuracy"}
    with pytest.raises(ConfigError, match="whose clients have models of their own"):
        comparison.check(parse(tables))
    tables["arms"]["alone"]["strategy"] = {"name": "local_only"}
    with pytest.raises(ConfigError, match=r"experiment\.holdout: expected a share to measure personal/accuracy on"):
        comparison.check(parse(tables))


def test_a_metric_that_nobody_measures_is_refused(tables: dict[str, Any]) -> None:
    tables["comparison"]["metric"] = "acuracy"
    with pytest.raises(ConfigError, match='Did you mean "accuracy"'):
        comparison.check(parse(tables))


def test_the_command_refuses_with_status_2_and_leaves_nothing(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(file), "--set", "arms.evolution.strategy.name=open_se", "--out", str(out)]) == 2
    assert 'Did you mean "open_es"?' in capsys.readouterr().err
    assert main(["compare", "configs/quickstart.toml", "--out", str(out)]) == 2
    assert "fedjourney run" in capsys.readouterr().err
    assert main(["compare", str(file), "--set", "comparison.onyl=", "--out", str(out)]) == 2
    assert "the file does not say onyl in [comparison]" in capsys.readouterr().err
    assert not out.exists()


def test_an_empty_value_takes_out_what_the_file_says(file: Path) -> None:
    kept = comparison.load(file).seeds
    assert comparison.load(file, ["comparison.seeds="]).seeds != kept


def test_the_readme_shows_a_comparison_that_can_be_run() -> None:
    root = Path(__file__).parents[2]
    blocks = re.findall(r"```toml\n(.*?)```", (root / "README.md").read_text(), re.S)
    found = parse(tomllib.loads(next(one for one in blocks if "[comparison]" in one)), base_dir=root / "configs")
    comparison.check(found)
    assert found.experiment("adam", "iid", 0)["strategy"]["name"] == "fedadam"
