"""What a task has to show reaches the page, and what cannot be shown costs nothing."""

import base64
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fedjourney
from fedjourney import config, metrics
from fedjourney.report import write_report
from fedjourney.report.record import Run
from fedjourney.report.verdict import best_of
from fedjourney.results import spread

ONE = ["experiment.rounds=1", "experiment.evaluate_every=0"]


def run(small: str, folder: Path, task: str) -> fedjourney.Result:
    return fedjourney.run(config.parse(small, [*ONE, f"task.name={task}"]), folder)


def test_texts_and_pictures_stand_on_the_page_and_change_no_bit(small: str, tmp_path: Path) -> None:
    plain = run(small, tmp_path / "plain", "faulty:not_showing")
    assert not (plain.folder / "exhibit.json").exists()
    assert "What it learned to do" not in (plain.folder / "report.html").read_text()
    worst = run(small, tmp_path / "worst", "classification")
    assert worst.digest == plain.digest
    assert "The test images with the highest loss" in (worst.folder / "report.html").read_text()
    shown = run(small, tmp_path / "shown", "faulty:showing")
    assert shown.digest == plain.digest
    entries = {entry["name"]: entry for entry in json.loads((shown.folder / "exhibit.json").read_text())}
    assert entries["a <b>text</b>"]["text"] == "359 & more"
    assert "expected a picture" in entries["odd"]["problem"]
    assert "got int" in entries["none"]["problem"]
    for name, pixels in (
        ("grey", np.arange(6).reshape(2, 3)),
        ("colour", np.full((4, 5, 3), 255)),
        ("digit", None),
    ):
        entry = entries[name]
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["picture"].partition(",")[2]))))
        assert decoded.shape[:2] == (entry["height"], entry["width"])
        assert pixels is None or np.array_equal(decoded, pixels)
    page = (shown.folder / "report.html").read_text()
    assert page.count('<img class="pixels" src="data:image/png;base64,') == 3
    assert "a &lt;b&gt;text&lt;/b&gt;" in page
    assert "359 &amp; more" in page
    assert "odd could not be made" in page


def test_an_exhibit_that_fails_is_said_and_the_run_stands(small: str, tmp_path: Path) -> None:
    result = run(small, tmp_path / "a", "faulty:failing_to_show")
    assert json.loads((result.folder / "run.json").read_text())["finished"]
    assert "ValueError: nothing to show" in (result.folder / "report.html").read_text()


@pytest.mark.parametrize("text", ["{", "7", '[7, {"name": "x"}, {"name": "y", "picture": "javascript:alert(1)"}]'])
def test_a_damaged_exhibit_still_makes_a_page(small: str, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "experiment.toml").write_text(small)
    (folder / "rounds.jsonl").write_text('{"round": 0, "test": {"auc": 0.5}}\n')
    (folder / "exhibit.json").write_text(text)
    page = write_report([folder]).read_text()
    assert "<img" not in page
    assert "50.0 % test AUC" in page


@pytest.mark.parametrize(
    ("name", "best", "worst", "line"),
    [
        ("accuracy", 0.9, 0.1, "90.00%"),
        ("auc", 0.9, 0.1, "90.00%"),
        ("rmse_degrees", 3.5, 80.0, "RMSE degrees 3.500"),
        ("equal_error_rate", 0.1, 0.9, "10.00%"),
        ("return", 200.0, -5.0, "return 200.0"),
        ("perplexity", 3.0, 9.0, "perplexity 3.000"),
    ],
)
def test_a_name_says_how_it_is_told_and_what_is_better(name: str, best: float, worst: float, line: str) -> None:
    assert metrics.shown(name, best) == line
    ends = [Run(Path(), "", {}, [{"round": 1, "test": {name: value, "loss": 1.0}}], *[{}] * 2, [], [], ())
            for value in (worst, best)]  # fmt: skip
    assert ends[0].main_metric == name
    assert best_of(ends, ["worst", "best"]).startswith("best ends best")
    twenty = [*[best] * 18, worst, worst]
    assert spread(twenty, metrics.lower_is_better(name))["worst_tenth"] == worst


def test_a_spread_of_huge_or_missing_numbers_is_one() -> None:
    assert spread([1e200, -1e200], True) == {"mean": 0.0, "spread": math.inf, "worst_tenth": 1e200}
    assert math.isnan(spread([0.5] * 20 + [math.nan], False)["worst_tenth"])
