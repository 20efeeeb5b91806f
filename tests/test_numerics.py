"""Where and how clients are computed: devices, lanes by the rule, rounding; and what a lack of memory does."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from process import environment

import fedjourney
from fedjourney import config, numerics
from fedjourney.batching import Batch
from fedjourney.client import ClientSide
from fedjourney.errors import ConfigError
from fedjourney.exchange import Exchange
from fedjourney.plan import Plan, plan
from fedjourney.storage import ClientStates
from fedjourney.updates import Carry, LocalUpdate

HERE = Path(__file__).parent


@pytest.mark.device
def test_clients_answer_the_same_on_a_second_device() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "second_device_runs.py")],
        capture_output=True,
        text=True,
        timeout=600,
        **environment({}),
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert int(line.removesuffix(" exchanges compared")) >= 100  # two a case


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_repeatable_and_near_the_cpu(small: str, tmp_path: Path) -> None:
    def run(device: str, name: str, lanes: int) -> fedjourney.Result:
        text = f'{small}[numerics]\ndevice = "{device}"\nlanes = {lanes}\n'
        return fedjourney.run(config.parse(text, ["engine.name=local"]), tmp_path / name)

    cpu = run("cpu", "cpu", 1)
    for lanes in (0, 1):
        first, second = run("cuda", f"a{lanes}", lanes), run("cuda", f"b{lanes}", lanes)
        assert first.digest == second.digest
        for name, tensor in cpu.parameters.items():
            torch.testing.assert_close(first.parameters[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", 'expected "cpu", "cuda", "cuda:1", "mps" or "auto"'),
        ("cuda:x", "expected"),
        ("cuda:99", '"cuda:99" is not on this machine; there are: cpu'),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_any_work(small: str, device: str, said: str) -> None:
    with pytest.raises(ConfigError, match="device") as caught:
        plan(config.parse(small, [f"numerics.device={device}"]))
    assert said in str(caught.value)


def test_what_is_left_to_the_rule_is_written_down(small: str, tmp_path: Path) -> None:
    result = fedjourney.run(config.parse(small, ["numerics.device=auto", "experiment.rounds=1"]), tmp_path / "run")
    written = config.load(result.folder / "experiment.toml")["numerics"]
    assert written["device"] in ("cpu", "cuda", "mps")
    assert written["lanes"] == 1 or written["device"] != "cpu"


@pytest.mark.parametrize(("free", "lanes"), [(1 << 40, 4), (0, 1)])
def test_lanes_fill_half_of_what_is_free_on_an_accelerator(
    small: str, monkeypatch: pytest.MonkeyPatch, free: int, lanes: int
) -> None:
    found = plan(config.parse(small, ["experiment.cohort=6"]))
    params, shard = found.task.init(0), found.shard(0)[0]
    batch = next(iter(found.task.batches(params, shard, 0)))
    need = numerics.lane_bytes(found.task, params, batch)
    weights = 4 * sum(tensor.numel() for tensor in params.values())
    assert 6 * weights < need < 7 * weights + 64 * 1024
    left = replace(found.experiment, tables=found.experiment.tables | {"numerics": {"device": "cuda", "lanes": 0}})
    for memory, expected in ((free, lanes), (5 * need, 2)):
        monkeypatch.setattr(numerics, "free_memory", lambda device, memory=memory: memory)
        told = numerics.with_lanes(left, 6, lambda: (found.task, params, batch))
        assert told["numerics"]["lanes"] == expected


def side(found: Plan, states: Path, half: LocalUpdate) -> ClientSide:
    return ClientSide(replace(found, halves={"train": half}), ClientStates(states))


def test_lanes_that_find_no_memory_are_halved_until_they_do(
    small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = plan(config.parse(small, ["numerics.lanes=8", "experiment.cohort=8", "numerics.dtype=float64"]))
    half, seen = found.halves["train"], []
    assert isinstance(half, LocalUpdate)

    def greedy(carry: Carry, batch: Batch, gradient: object) -> Carry:
        if torch._C._functorch.is_batchedtensor(batch.mask):
            lanes = len(torch._C._functorch.get_unwrapped(batch.mask))
            seen.append(lanes)
            if lanes > 2:
                raise torch.OutOfMemoryError("no memory for so many")
        return half.step(carry, batch, gradient)

    params = found.task.init(0)
    exchange = Exchange("train", 1, "train", params, list(range(8)), [-1] * 8, like=found.rounds.like(params))
    tight = side(found, tmp_path / "a", replace(half, step=greedy))
    with caplog.at_level(logging.WARNING, "fedjourney"):
        got = tight.block(exchange)
    expected = side(found, tmp_path / "b", half).block(exchange)
    assert "out of memory with 8 lanes, going on with 4" in caplog.text
    assert max(seen[seen.index(2) :]) == 2
    assert got.sums is not None
    assert expected.sums is not None
    assert [answer.problem for answer in got.answers] == [None] * 8
    for name, tensor in expected.sums.tensors.items():
        torch.testing.assert_close(got.sums.tensors[name], tensor, rtol=0, atol=1e-9)


def test_mixed_precision_rounds_the_forward_pass_and_still_learns(small: str, tmp_path: Path) -> None:
    results = [
        fedjourney.run(
            config.parse(small, [f"numerics.mixed_precision={mixed}", f"numerics.lanes={lanes}"]), tmp_path / name
        )
        for name, mixed, lanes in (("plain", "false", 1), ("mixed", "true", 1), ("lanes", "true", 2))
    ]
    plain, *others = results
    for mixed in others:
        assert mixed.digest != plain.digest
        assert all(tensor.dtype == torch.float32 for tensor in mixed.parameters.values())
        for name, tensor in plain.parameters.items():
            torch.testing.assert_close(mixed.parameters[name], tensor, rtol=0.05, atol=0.01)


def test_settings_are_torchs_own_again_afterwards() -> None:
    table = {"device": "cuda", "dtype": "float32", "threads": 1, "lanes": 1, "compile": False}
    before = torch.backends.cudnn.conv.fp32_precision, torch.are_deterministic_algorithms_enabled()
    with numerics.Numerics.of(table | {"tf32": True, "mixed_precision": False}).applied():
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.conv.fp32_precision, torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.parametrize("thorough", [True, False])
def test_what_is_applied_is_undone_and_with_a_thorough_look_whatever_else_was_set(thorough: bool) -> None:
    table = {"device": "cpu", "dtype": "float32", "threads": 2, "lanes": 1, "compile": False}
    applied = numerics.Numerics.of(table | {"tf32": False, "mixed_precision": False}).applied(thorough)
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            with applied:
                assert torch.is_grad_enabled()
                assert torch.get_num_threads() == 2
                torch.set_default_dtype(torch.float64)
                torch.set_default_device("meta")
            assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 1
        assert (torch.get_default_dtype() == torch.float32) == thorough
        assert (torch.empty(0).device.type == "cpu") == thorough
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
