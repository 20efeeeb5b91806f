"""Local updates with a fault in round 2, named in configs as `"faulty:raising"` and so on; tasks that show."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fedjourney.batching import Batch, Gradient
from fedjourney.data import Examples
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import CrossEntropy
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply
from fedjourney.updates.sgd import sgd


def _with_finish(task: Task, change: Callable[[Reply], Reply]) -> LocalUpdate:
    plain = sgd(task)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        reply = plain.finish(shared, carry)
        # which clients: those whose loss has an even last bit, so some fail and some do not
        return change(reply) if int(reply.metrics["loss"] * 1e6) % 2 else reply

    return dataclasses.replace(plain, finish=finish)


def raising(task: Task, /) -> LocalUpdate:
    def fail(reply: Reply) -> Reply:
        raise ValueError("a client's own fault")

    return _with_finish(task, fail)


def not_finite(task: Task, /) -> LocalUpdate:
    return _with_finish(
        task, lambda reply: reply._replace(tensors={n: t * torch.nan for n, t in reply.tensors.items()})
    )


def wrong_shape(task: Task, /) -> LocalUpdate:
    return _with_finish(
        task, lambda reply: reply._replace(tensors={n: t.flatten()[1:] for n, t in reply.tensors.items()})
    )


def always_raising(task: Task, /) -> LocalUpdate:
    def finish(shared: Tensors, carry: Carry) -> Reply:
        raise ValueError("nobody answers")

    return dataclasses.replace(sgd(task), finish=finish)


def killing_once(task: Task, /, *, marker: str) -> LocalUpdate:
    """Kill the worker process that runs it, the first time only."""

    def fail(reply: Reply) -> Reply:
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return reply
        os.kill(os.getpid(), signal.SIGKILL)
        return reply

    return _with_finish(task, fail)


def counting(task: Task, /) -> LocalUpdate:
    """Not faulty: keeps, as client state, how many of its replies counted."""
    plain = sgd(task)

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        carry = plain.start(shared, row, state)
        return Carry(carry.params, carry.extra | {"count": state.get("count", torch.zeros(()))})

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        stepped = plain.step(Carry(carry.params, carry.extra), batch, gradient)
        return Carry(stepped.params, stepped.extra | {"count": carry.extra["count"]})

    def finish(shared: Tensors, carry: Carry) -> Reply:
        reply = plain.finish(shared, carry)
        count = carry.extra["count"] + 1
        return Reply(reply.tensors, reply.metrics | {"count": float(count)}, {"count": count})

    return dataclasses.replace(plain, start=start, step=step, finish=finish)


def greedy(task: Task, /) -> LocalUpdate:
    def take(reply: Reply) -> Reply:
        torch.zeros(1 << 30, dtype=torch.float64)  # 8 GiB
        return reply

    return _with_finish(task, take)


def never_returning(task: Task, /) -> LocalUpdate:
    def fail(reply: Reply) -> Reply:
        time.sleep(3600)
        return reply

    return _with_finish(task, fail)


def _no_reply(reply: Reply) -> object:
    return None


def _array_metric(reply: Reply) -> Reply:
    return reply._replace(metrics={**reply.metrics, "size": torch.ones(3)})  # type: ignore[dict-item]


def _foreign_tensors(reply: Reply) -> Reply:
    return reply._replace(tensors={"update": 1.0})  # type: ignore[dict-item]


def _negative_count(reply: Reply) -> Reply:
    return reply._replace(metrics={**reply.metrics, "num-examples": -3})


def _taken_name(reply: Reply) -> Reply:
    return reply._replace(metrics={**reply.metrics, "round": 1.0})


def _leaving(reply: Reply) -> Reply:
    raise SystemExit(3)


def _nested(reply: Reply) -> Reply:
    return reply._replace(tensors=dict.fromkeys(reply.tensors, torch.eye(2).to_sparse()))


def _speechless(reply: Reply) -> Reply:
    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise ValueError

    raise Mute


def _without_gradients(reply: Reply) -> Reply:
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_autocast_enabled("cpu", True)
    torch.set_float32_matmul_precision("medium")
    os.chdir("/")
    raise ValueError("and everything is left as it should not be")


MISBEHAVIOUR = {
    change.__name__.strip("_"): change
    for change in (
        _no_reply,
        _array_metric,
        _foreign_tensors,
        _negative_count,
        _taken_name,
        _leaving,
        _speechless,
        _nested,
        _without_gradients,
    )
}


def misbehaving(task: Task, /, *, how: str) -> LocalUpdate:
    return _with_finish(task, MISBEHAVIOUR[how])  # type: ignore[arg-type]


def meddling(task: Task, /, *, unseen: bool = False) -> LocalUpdate:
    """Change the shared parameters in place; unseen: so that torch does not count it."""
    plain = sgd(task)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        reply = plain.finish(shared, carry)
        if int(reply.metrics["loss"] * 1e6) % 2:
            for tensor in shared.values():
                (tensor.data if unseen else tensor).add_(1.0)
        return reply

    return dataclasses.replace(plain, finish=finish)


def huge(task: Task, /) -> LocalUpdate:
    """Send finite numbers whose sum is not."""
    return _with_finish(task, lambda reply: reply._replace(tensors={n: t * 0 + 3e38 for n, t in reply.tensors.items()}))


class _Showing(CrossEntropy):
    """Shows a text, pictures of every permitted kind, and a picture that is none."""

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, object]:
        for tensor in params.values():
            tensor.zero_()  # what it does to its copy changes no delivered model
        grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
        image = examples.x["image"][0, 0].numpy()
        return {"a <b>text</b>": f"{len(examples)} & more", "grey": grey, "colour": np.ones((4, 5, 3)), "digit": image,
                "odd": np.zeros((2, 3, 4)), "none": 7}  # fmt: skip


class _Failing(CrossEntropy):
    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, object]:
        raise ValueError("nothing to show")


def showing(make_model: MakeModel, signature: Signature, dtype: torch.dtype, /) -> Task:
    return _Showing(make_model, signature, 10, dtype)


def failing_to_show(make_model: MakeModel, signature: Signature, dtype: torch.dtype, /) -> Task:
    return _Failing(make_model, signature, 10, dtype)


def not_showing(make_model: MakeModel, signature: Signature, dtype: torch.dtype, /) -> Task:
    return CrossEntropy(make_model, signature, 10, dtype)
