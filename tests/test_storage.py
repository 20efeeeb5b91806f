"""What clients keep from round to round: to the bit, whoever shares a file with whom, and as long as need be."""

import math
from pathlib import Path

import pytest
import torch

from fedjourney.storage import ClientStates
from fedjourney.tensors import Tensors


def state(value: float, dtype: torch.dtype = torch.float32) -> Tensors:
    return {"params/w": torch.full((3, 2), value, dtype=dtype), "steps": torch.tensor(int(value == value))}


def files(folder: Path, client: int) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / str(client)).iterdir()}


def test_what_a_resume_would_ask_for_is_kept_and_nothing_older(tmp_path: Path) -> None:
    states = ClientStates(tmp_path)
    for round, oldest in ((1, -1), (2, -1), (9, 2), (10, 9)):
        states.save(4, round, state(round), oldest)
        assert min(int(name.partition(".")[0]) for name in files(tmp_path, 4)) == max(oldest, 1)
    assert files(tmp_path, 4).keys() == {"9.safetensors", "10.safetensors"}
    loaded = states.load(4, 9)
    assert loaded is not None
    assert torch.equal(loaded["params/w"], state(9)["params/w"])
    assert states.load(4, 2) is None
    assert states.load(4, -1) == {}


def test_clients_that_keep_the_same_bits_share_a_file(tmp_path: Path) -> None:
    states = ClientStates(tmp_path)
    for client in (0, 1, 2):
        states.save(client, 1, state(0.5), -1)
    assert len({files(tmp_path, client)["1.safetensors"] for client in (0, 1, 2)}) == 1
    states.save(0, 1, state(7.0), -1)  # again, after a block was computed in vain: the others' stays
    states.save(1, 2, state(8.0), -1)
    for client, round, expected in ((0, 1, 7.0), (1, 1, 0.5), (1, 2, 8.0), (2, 1, 0.5)):
        loaded = states.load(client, round)
        assert loaded is not None
        assert torch.equal(loaded["params/w"], state(expected)["params/w"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (state(0.0), state(-0.0)),
        (state(1.0), state(1.0, torch.bfloat16)),
        (state(1.0), {"params/w": torch.ones(2, 3), "steps": torch.tensor(1)}),
        (state(1.0), {"params/v": torch.ones(3, 2), "steps": torch.tensor(1)}),
        (state(1.0), {**state(1.0), "more": torch.ones(())}),
    ],
    ids=["sign of zero", "dtype", "shape", "name", "more"],
)
def test_what_differs_by_a_bit_or_in_form_is_written(tmp_path: Path, one: Tensors, other: Tensors) -> None:
    states = ClientStates(tmp_path)
    states.save(0, 1, one, -1)
    states.save(1, 1, other, -1)
    assert files(tmp_path, 0) != files(tmp_path, 1)
    loaded = states.load(1, 1)
    assert loaded is not None
    assert {n: (t.dtype, t.shape, t.double().tolist()) for n, t in loaded.items()} == {
        n: (t.dtype, t.shape, t.double().tolist()) for n, t in other.items()
    }
    assert all(torch.equal(t.signbit(), loaded[n].signbit()) for n, t in other.items())


def test_not_a_number_is_a_bit_pattern_like_others(tmp_path: Path) -> None:
    states = ClientStates(tmp_path)
    for client in (0, 1):
        states.save(client, 1, state(math.nan), -1)
    assert files(tmp_path, 0) == files(tmp_path, 1)


def test_a_lost_file_is_written_anew(tmp_path: Path) -> None:
    states = ClientStates(tmp_path)
    states.save(0, 1, state(2.0), -1)
    (tmp_path / "0" / "1.safetensors").unlink()
    states.save(1, 1, state(2.0), -1)
    assert states.load(0, 1) is None
    assert states.load(1, 1) is not None
