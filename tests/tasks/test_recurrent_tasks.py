"""Forecasts beside naive ones computed in another way; text drawn as it says; runs with and without gradients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedjourney
from fedjourney import config, plugins
from fedjourney.data import BYTES, Examples, written
from fedjourney.errors import ConfigError
from fedjourney.tasks import Signature, Task

WINDOWS = Signature({"past": (7,)}, {"future": (5,)}, 5)


class Zero(nn.Module):
    """Says zero of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, past: Tensor) -> Tensor:
        return self.bias.expand(len(past), -1)


def forecast(signature: Signature = WINDOWS, **options: object) -> Task:
    table = plugins.resolve("task", {"name": "forecast", **options})
    task: Task = plugins.build("task", table, Zero, signature, torch.float64)
    return task


def windows(count: int = 40) -> Examples:
    line = torch.randn(count, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return Examples({"past": line[:, :7]}, {"future": line[:, 7:]})


def test_naive_forecasts_are_those_of_a_loop() -> None:
    some, task = windows(), forecast(period=3)
    errors: dict[str, list[float]] = {"last_value": [], "drift": [], "last_change": [], "seasonal": []}
    for past, future in zip(some.x["past"].tolist(), some.y["future"].tolist(), strict=True):
        line = list(past)
        for ahead, value in enumerate(future, start=1):
            line.append(line[-3])
            errors["seasonal"].append((line[-1] - value) ** 2)
            errors["last_value"].append((past[-1] - value) ** 2)
            errors["last_change"].append((past[-1] + ahead * (past[-1] - past[-2]) - value) ** 2)
            errors["drift"].append((past[-1] + ahead * (past[-1] - past[0]) / 6 - value) ** 2)
    found = task.summary(task.evaluate(task.init(0), some))
    for name, squared in errors.items():
        assert found[f"rmse_{name}"] == pytest.approx(math.sqrt(np.mean(squared)), rel=1e-12)
    assert found["rmse"] == pytest.approx(found["rmse_last_value"], rel=1e-12)  # a zero model forecasts no change
    assert next(iter(found)) == "rmse"
    assert "rmse_seasonal" not in task.summary(forecast().evaluate(task.init(0), some))


def test_its_picture_shows_all_three_lines_and_is_the_same_again() -> None:
    task, some = forecast(), windows()
    (name, picture), *_ = task.exhibit(task.init(0), some).items()  # type: ignore[attr-defined]
    assert "orange" in name
    assert picture.dtype == np.uint8
    for colour in ((120, 120, 120), (42, 120, 214), (235, 104, 52)):
        assert (picture == colour).all(-1).sum() > 100
    assert (picture == task.exhibit(task.init(0), some)[name]).all()  # type: ignore[attr-defined]
    assert task.exhibit(task.init(0), some.cut(slice(0))) == {}  # type: ignore[attr-defined]


def test_forecasts_need_windows_and_a_period_within() -> None:
    with pytest.raises(ConfigError, match="window of 7 values, got 8"):
        forecast(period=8)
    with pytest.raises(ConfigError, match=r"series"):
        forecast(Signature({"image": (1, 8, 8)}, {"label": ()}, 10))
    with pytest.raises(ConfigError, match='"series"'):  # several targets
        forecast(Signature({"pairs": (11, 3)}, {"value": (11,), "bayes": (11,)}, 0))


class Constant(nn.Module):
    """Logits of 0, 1, 2 for three characters, wherever."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.arange(3.0))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.bias.expand(*tokens.shape, -1)


def writer(vocabulary: str = "abc", **options: object) -> Task:
    table = plugins.resolve("task", {"name": "next_character", **options})
    signature = Signature({"tokens": (4,)}, {"next": (4,)}, len(vocabulary), vocabulary)
    task: Task = plugins.build("task", table, Constant, signature, torch.float32)
    return task


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_characters_are_drawn_at_their_temperature(temperature: float) -> None:
    task = writer(temperature=temperature, text_length=500)
    drawn = task.continued(task.init(0), torch.zeros(6, 4, dtype=torch.int64))  # type: ignore[attr-defined]
    weights = np.exp(np.arange(3) / temperature)
    expected = 3000 * weights / weights.sum()
    counts = np.bincount(drawn.flatten().numpy(), minlength=3)
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-squared, 2 degrees of freedom, p = 0.001


def test_text_goes_on_from_test_examples_and_is_the_same_again() -> None:
    task = writer(text_length=20)
    some = Examples({"tokens": torch.tensor([[0, 1, 2, 0]] * 6)}, {"next": torch.zeros(6, 4, dtype=torch.int64)})
    texts = task.exhibit(task.init(0), some)  # type: ignore[attr-defined]
    assert len(texts) == 3
    assert all(text.startswith("abca▸") and len(text) == 25 and set(text) <= set("abc▸") for text in texts.values())
    assert len(set(texts.values())) > 1
    assert texts == task.exhibit(task.init(0), some)  # type: ignore[attr-defined]


def test_bytes_are_text_again() -> None:
    codes = [256, *"naïve — 1".encode(), 257]
    assert written(codes, BYTES) == "naïve — 1"
    assert len(BYTES) == len(set(BYTES)) == 258


EXPERIMENTS = {
    "text": '[data]\nname = "python_topics"\nsequence_length = 20\n'
    '[partition]\nname = "natural"\nby = "topic"\nat_least = 700\n'
    '[model]\nname = "lstm"\nwidth = 4\nlayers = 1\n[task]\nname = "next_character"\nbatch_size = 20\n',
    "rows": '[data]\nname = "digits"\n[partition]\nname = "iid"\nclients = 30\n[model]\nname = "gru"\nwidth = 8\n',
    "series": '[data]\nname = "series"\nsets = ["macrodata"]\nwindow = 8\nhorizon = 4\n[partition]\nname = "natural"\n'
    'by = "series"\n[model]\nname = "gru"\nwidth = 8\n[task]\nname = "forecast"\nbatch_size = 50\n',
}
STRATEGIES = {"fedavg": "", "open_es": "population = 4\n", "eggroll": "population = 4\n"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_they_learn_with_gradients_and_without(tmp_path: Path, name: str, strategy: str) -> None:
    text = '[experiment]\nrounds = 1\ncohort = 2\n[engine]\nname = "serial"\n' + EXPERIMENTS[name]
    text += f'[strategy]\nname = "{strategy}"\n{STRATEGIES[strategy]}'
    result = fedjourney.run(config.parse(text), tmp_path / "run")
    assert all(row["clients"]["answered"] == row["clients"]["asked"] for row in result.rounds)
    first, last = result.rounds[0]["test"], result.rounds[-1]["test"]
    assert math.isfinite(last["loss"])
    assert last["loss"] != first["loss"]
