"""A page tells the value that a run truly ended with: not its last finite one, not that of a model nobody trains."""

import json
import math
import re
from pathlib import Path

import pytest
from fake_run import fake_run

import fedjourney
from fedjourney import config
from fedjourney.cli import main
from fedjourney.report import write_report
from fedjourney.report.charts import Series, line_chart
from fedjourney.report.reading import read_run
from fedjourney.report.verdict import best_of, yardstick


def diverging(folder: Path, from_round: int) -> Path:
    """Return a run whose test accuracy is no finite number from a round on."""
    run = fake_run(folder, rounds=6, clients=5)
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for row in rows[from_round:]:
        if row["test"]:
            row["test"]["accuracy"] = None
    (run / "rounds.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return run


def test_a_run_that_diverged_ends_with_no_number(tmp_path: Path) -> None:
    bad, good = diverging(tmp_path / "bad", 3), fake_run(tmp_path / "good", rounds=6, clients=5, ceiling=0.3)
    page = write_report([bad]).read_text()
    assert "NaN test accuracy after 6 rounds" in page
    assert "The test accuracy is not a finite number from round 4 on: the run diverged." in page
    assert "test: not a finite number from round 4 on." in page
    runs = [read_run(bad), read_run(good)]
    assert best_of(runs, ["bad", "good"]).startswith("good ends with ")
    assert best_of(runs, ["bad", "good"]).endswith("; bad diverged")
    assert (
        best_of([runs[0]] * 2, ["a", "b"]) == "No run that learned ends with a finite test accuracy; a and b diverged"
    )
    started = dict(runs[0].series("test", "accuracy"))
    assert set(started) == {0, 2}
    both = write_report([bad, good]).read_text()
    best = max(started, key=lambda x: started[x])
    assert f'<th scope="row">bad</th><td>NaN</td><td>{100 * started[best]:.1f} % (round {best:.0f})</td>' in both


def test_a_network_that_gives_nothing_but_nan_answers_nothing(small: str, tmp_path: Path) -> None:
    overrides = ["strategy.name=fedavg", "strategy.server_learning_rate=1e37", "experiment.rounds=3"]
    run = fedjourney.run(config.parse(small, overrides), tmp_path / "run")
    assert run.rounds[0]["test"]["accuracy"] > 0
    assert run.rounds[-1]["test"] == {"accuracy": None, "loss": None}  # argmax would be right on all of class 0
    page = (run.folder / "report.html").read_text()
    assert "NaN test accuracy after 3 rounds" in page
    assert "the run diverged" in page
    assert 'class="band' not in page  # of a spread that is no number


def test_a_metric_that_never_was_a_number_is_told_as_such(tmp_path: Path) -> None:
    page = write_report([diverging(tmp_path / "never", 0)]).read_text()
    assert "NaN test accuracy after 6 rounds" in page  # not the loss, which is finite
    assert "The test accuracy was never a finite number" in page


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([1, 2, 3], None),
        ([1, 2, math.nan], "a: not a finite number from round 2 on."),
        ([math.nan, 2, 3], "a: not a finite number in 1 of 3 evaluations, the last time in round 0."),
        ([math.nan, 2, math.nan], "a: not a finite number in 2 of 3 evaluations, and none from round 2 on."),
        ([math.nan] * 3, "a: in no place a finite number."),
    ],
)
def test_a_line_with_gaps_is_drawn_where_it_is_and_told_where_not(y: list[float], words: str | None) -> None:
    chart = line_chart("loss", [Series("a", list(enumerate(y)), 0, [(x, v - 1, v + 1) for x, v in enumerate(y)])])
    assert (f'<p class="gap">{words}</p>' in chart) if words else ("gap" not in chart)
    assert "nan" not in chart  # no coordinate
    finite = sum(map(math.isfinite, y))
    assert chart.count("<circle") == (1 if finite else 0)
    assert ("a NaN</text>" in chart) == (0 < finite and not math.isfinite(y[-1]))


def test_runs_with_models_of_the_clients_own_are_judged_by_those(small: str, tmp_path: Path) -> None:
    folders = {}
    for name in ("fedproto", "local_only", "fedavg"):
        folders[name] = tmp_path / name
        fedjourney.run(config.parse(small, [f"strategy.name={name}", "experiment.rounds=2"]), folders[name])
    for name in ("fedproto", "local_only"):
        page = (folders[name] / "report.html").read_text()
        assert "What it learned to do" not in page  # the images that an untrained model gets wrong say nothing
        assert "untrained shared model, test accuracy" in page
        assert page.index("How it serves its clients") < page.index("The server&#x27;s model</h2>")
        assert not json.loads((folders[name] / "run.json").read_text())["summary"]["trained"]
    told = json.loads((folders["fedavg"] / "run.json").read_text())
    assert told["summary"]["trained"]
    assert told["untrained"] == []
    assert "What it learned to do" in (folders["fedavg"] / "report.html").read_text()

    runs = [read_run(folder) for folder in folders.values()]
    by = yardstick(runs)
    assert by is not None
    own = [run.final("evaluation", "personal/accuracy", "mean") for run in runs[:2]]
    shared = runs[2].final("evaluation", "accuracy", "mean")
    assert [run.final(*place) for run, place in zip(runs, by.places, strict=True)] == [*own, shared]
    best = max(zip([*own, shared], folders, strict=True))
    assert best_of(runs, list(folders)).startswith(f"{best[1]} ends best: {100 * best[0]:.1f} % mean accuracy on cli")
    page = write_report(list(folders.values())).read_text()
    assert "Mean accuracy on clients&#x27; own data for what was sent" in page


def test_layers_that_clients_keep_are_told_to_be_those_of_the_start(small: str, tmp_path: Path) -> None:
    overrides = ["strategy.name=fedper", 'strategy.personal=["3.*"]', "experiment.rounds=1"]
    run = fedjourney.run(config.parse(small, overrides), tmp_path / "run")
    assert json.loads((run.folder / "run.json").read_text())["untrained"] == ["3.weight", "3.bias"]
    page = (run.folder / "report.html").read_text()
    assert ": 3.weight and 3.bias.</p>" in page


def test_a_run_in_which_nothing_was_learned_says_so(small: str, tmp_path: Path) -> None:
    still, good = tmp_path / "still", tmp_path / "good"
    fedjourney.run(config.parse(small, ["update.learning_rate=1e38", "experiment.rounds=2"]), still)
    fedjourney.run(config.parse(small, ["experiment.rounds=2"]), good)
    assert "<li>No round changed the model" in (still / "report.html").read_text()
    assert best_of([read_run(still), read_run(good)], ["still", "good"]).endswith("; still learned nothing")
    assert "No round changed the model" not in (good / "report.html").read_text()
    alone = tmp_path / "alone"
    overrides = ["strategy.name=local_only", "update.learning_rate=1e38", "experiment.rounds=2"]
    fedjourney.run(config.parse(small, overrides), alone)
    page = (alone / "report.html").read_text()
    assert "<li>No reply counted in any round" in page
    assert "of the start model at clients after 2 rounds" in page
    assert "still: No round changed the model" in write_report([still, good], tmp_path / "both.html").read_text()


def test_what_diverged_beside_the_headline_is_told(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", rounds=6, clients=5)
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for loss, words in (
        (25.0, "times as high as it began"),
        (None, "The test loss is not a finite number from round 6"),
    ):
        rows[-1]["test"]["loss"] = loss
        (run / "rounds.jsonl").write_text("\n".join(map(json.dumps, rows)))
        page = write_report([run]).read_text()
        assert words in page
        assert "the run diverged" in page


def test_models_of_clients_own_that_nobody_evaluates_are_told(
    small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, holdout in (("ditto", 0.0), ("local_only", 0.0), ("ditto", 0.2), ("fedavg", 0.0)):
        caplog.clear()
        overrides = [f"strategy.name={name}", f"experiment.holdout={holdout}", "experiment.rounds=1"]
        run = fedjourney.run(config.parse(small, overrides), tmp_path / f"{name}{holdout}")
        said = name != "fedavg" and not holdout
        assert ("holdout is 0" in caplog.text) == said
        assert ("<li>Clients have models of their own here" in (run.folder / "report.html").read_text()) == said


def test_a_run_without_the_value_is_not_beaten(small: str, tmp_path: Path) -> None:
    own, no = tmp_path / "own", tmp_path / "no"
    fedjourney.run(config.parse(small, ["strategy.name=ditto", "experiment.rounds=1"]), own)
    fedjourney.run(config.parse(small, ["experiment.holdout=0", "experiment.rounds=1"]), no)
    said = best_of([read_run(own), read_run(no)], ["own", "no"])
    assert said.startswith("own ends with ")
    assert said.endswith("; not measured in no")
    assert "Shown is the shared model" in (own / "report.html").read_text()


def test_runs_on_other_data_or_tasks_are_not_ranked(small: str, tmp_path: Path) -> None:
    folders = {"digits": [], "more": ["data.test=0.3", "experiment.seed=5"], "turned": ["task.name=regression"]}
    for name, overrides in folders.items():
        text = small.replace('"digits"', '"rotated_digits"') if name == "turned" else small
        text = text.replace("alpha = 0.5", 'alpha = 0.5\nby = "range"') if name == "turned" else text
        fedjourney.run(config.parse(text, [*overrides, "experiment.rounds=1"]), tmp_path / name)
    runs = {name: read_run(tmp_path / name) for name in folders}
    assert " ends best: " in best_of([runs["digits"], runs["more"]], ["digits", "more"])
    said = best_of([runs["digits"], runs["turned"]], ["digits", "turned"])
    assert said == "On different data or tasks: none is best"
    page = write_report([tmp_path / "digits", tmp_path / "turned"], tmp_path / "both.html").read_text()
    assert re.search(r'<th scope="row">turned</th><td>[\d.]+ test RMSE</td><td>-</td>', page)
    assert re.search(r'<th scope="row">digits</th><td>[\d.]+ % test accuracy</td><td>-</td>', page)
    assert "Examples of each range at each client" in (tmp_path / "turned" / "report.html").read_text()
    assert "Examples of each class at each client" in (tmp_path / "digits" / "report.html").read_text()


def test_a_folder_of_an_earlier_version_still_resumes_and_makes_pages(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    fedjourney.run(config.parse(small, ["experiment.rounds=1"]), old)
    told = json.loads((old / "run.json").read_text())
    for key in ("personal", "untrained"):
        del told[key]
    del told["summary"]["trained"]
    (old / "run.json").write_text(json.dumps(told))
    assert main(["resume", str(old)]) == 0
    assert "test accuracy after 1 round" in capsys.readouterr().out
    assert "No round changed" not in write_report([old]).read_text()


def test_runs_that_learned_nothing_are_all_told_so(small: str, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        fedjourney.run(config.parse(small, ["update.learning_rate=1e38", "experiment.rounds=1"]), folder)
    said = best_of([read_run(folder) for folder in folders], ["a", "b"])
    assert said == "No run that learned ends with a finite test accuracy; a and b learned nothing"
    page = write_report(folders).read_text()
    assert "What failed stands below" not in page  # it does on the page of one run
    assert "What failed stands below" in (folders[0] / "report.html").read_text()
