"""What a round and a result look like on the screen."""

import pytest

from fedjourney.screen import HEADER, Screen, cells


def row(**told: object) -> dict[str, object]:
    common = {
        "round": 1,
        "clients": {"asked": 2, "answered": 2, "failed": []},
        "train": {},
        "validation": {},
        "test": {},
        "bytes_up": 0,
        "bytes_down": 0,
        "seconds": 0.1,
    }
    return common | told


def test_a_fitness_is_not_told_as_a_loss() -> None:
    told = [cells(row(train=train))[HEADER.index("train loss")] for train in ({"loss": 0.0253}, {"fitness": 203.1234})]
    assert told == ["0.0253", "fitness 203.1"]


def test_a_few_bytes_are_not_told_as_none() -> None:
    sent = cells(row(bytes_up=128, bytes_down=20_900_000))
    assert [float(sent[HEADER.index(name)]) for name in ("MB up", "MB down")] == [0.0001, 20.9]


@pytest.mark.parametrize("test", [{"rmse_degrees": 86.19361}, {"return": -500.0}, {"mse": 8.9e23}, {"auc": 0.787}])
def test_columns_stand_under_their_titles(test: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    shown = Screen(None, quiet=False)
    shown.round(row(round=0, test=test, validation=test))
    shown.round(row(test=test))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert not any(word in lines[1] for word in ("rmse", "mse", "auc", "_"))
