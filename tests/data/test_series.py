"""Series: real values, cut by time, nothing of the future in training."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedjourney import plugins
from fedjourney.data import Dataset, Source
from fedjourney.errors import DataError


def build(tmp_path: Path, **options: object) -> Dataset:
    table = plugins.resolve("data", {"name": "series", **options})
    found: Dataset = plugins.build("data", table, Source(None, tmp_path, 0, tmp_path))
    return found


def elnino() -> np.ndarray:
    found = importlib.util.find_spec("statsmodels")  # importing it would take seconds
    assert found is not None, "make demo installs it: the extra `series`"
    text = (Path(str(found.origin)).parent / "datasets" / "elnino" / "elnino.csv").read_text()
    rows = list(csv.reader(text.splitlines()))[1:]
    return np.array([[float(cell) for cell in row[1:]] for row in rows]).flatten()


def test_each_value_is_forecast_in_one_split_and_the_unit_is_the_training_parts(tmp_path: Path) -> None:
    dataset = build(tmp_path, sets=["elnino"], window=24, horizon=1)
    raw = elnino()
    count = len(raw)
    train = count - 2 * round(0.15 * count)
    own = (raw - raw[:train].mean()) / np.sqrt((np.diff(raw[:train]) ** 2).mean())
    futures = torch.cat([part.y["future"] for part in (dataset.train, dataset.validation, dataset.test)]).flatten()
    np.testing.assert_allclose(futures, own[24:], rtol=1e-6, atol=1e-6)
    assert len(dataset.train) == train - 24
    np.testing.assert_allclose(dataset.test.x["past"][0], own[-len(dataset.test) - 24 : -len(dataset.test)], rtol=1e-6)


def test_no_training_window_reaches_into_what_is_forecast_later(tmp_path: Path) -> None:
    dataset = build(tmp_path, sets=["elnino"], window=24, horizon=12, unit=1.0)
    count = len(elnino())
    train = count - 2 * round(0.15 * count)
    assert len(dataset.train) == train - 24 - 12 + 1
    assert dataset.train.y["future"][-1].tolist() == pytest.approx(elnino()[train - 12 : train].tolist())
    assert dataset.validation.y["future"][0].tolist() == pytest.approx(elnino()[train : train + 12].tolist())


@pytest.mark.parametrize(
    ("name", "series", "values"),
    [
        ("co2", 1, (2001 - 1958) * 12 + 10),
        ("elec_equip", 1, 257),
        ("sunspots", 1, 309),
        ("nile", 1, 100),
        ("macrodata", 12, 203),
        ("fertility", 188, 52),
    ],
)
def test_tables_are_whole(tmp_path: Path, name: str, series: int, values: int) -> None:
    dataset = build(tmp_path, sets=[name], window=2, horizon=1, validation=0.0, test=0.0, unit=1.0)
    owners, counts = np.unique(dataset.columns["series"], return_counts=True)
    assert len(owners) == series
    assert set(counts) == {values - 2}


def test_weeks_become_months(tmp_path: Path) -> None:
    dataset = build(tmp_path, sets=["co2"], window=2, horizon=1, validation=0.0, test=0.0, unit=1.0)
    march, april = dataset.train.x["past"][0].tolist()
    assert march == pytest.approx(316.1)  # one week of March 1958 was measured
    assert april == pytest.approx((317.3 + 317.6 + 317.5 + 316.4) / 4)
    june = dataset.train.y["future"][1].item()  # no week of it was measured
    may, july = dataset.train.y["future"][0].item(), dataset.train.y["future"][2].item()
    assert june == pytest.approx((may + july) / 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sets": []}, ["sets", "got none"]),
        ({"sets": ["nile", "nile"]}, ["sets", "each name once"]),
        ({"sets": ["nile"], "window": 60, "horizon": 12}, ["at least 72 values of nile", "got 70"]),
        ({"sets": ["nile"], "horizon": 12, "test": 0.1}, ["test", "horizon of 12", "got 10"]),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path: Path, options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build(tmp_path, **options)
    for word in words:
        assert word in str(error.value)


def test_a_missing_extra_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)  # how Python itself marks a module that is not to be had
    with pytest.raises(DataError, match=r'statsmodels.*pip install "fedjourney\[series\]"'):
        build(tmp_path, sets=["nile"])
