"""PyTorch's bare training loop: no federation, no server, one process of one thread for each core.

python benchmarks/bare_loop.py WORK.json eager|compiled     prints one measurement as JSON

A "round" is one pass over as many clients' examples as a process would be given of a cohort. Parameters are never
reset, averaged or sent: the loop is what any simulator has to do at least, if it computes clients one by one.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional as F
from work import Work, build, read

Batches = Iterable[tuple[Tensor, Tensor]]
Train = Callable[[Batches], None]
PATIENCE = 600.0  # seconds that processes wait for each other; compilation takes its time


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy [] of logits [B, …, classes] against targets [B, …]."""
    return F.cross_entropy(logits.flatten(0, -2), target.flatten())


def eager(model: nn.Module, learning_rate: float) -> Train:
    """Return the plain loop, which changes the module's parameters in place.

    Of five ways to write it (this one, `torch.optim.SGD` with foreach or fused, two foreach calls, a compiled forward
    and backward) this took the least processor time on LeNet and MLP.
    """
    parameters = list(model.parameters())

    def train(batches: Batches) -> None:
        for x, y in batches:
            gradients = torch.autograd.grad(loss_of(model(x), y), parameters)
            with torch.no_grad():
                torch._foreach_add_(
                    parameters, gradients, alpha=-learning_rate
                )  # in eager mode it is right, and fastest

    return train


def compiled(model: nn.Module, learning_rate: float) -> Train:
    """Return the loop with its whole step (forward, backward, update) through torch.compile, without `alpha=`."""
    held = {name: tensor.detach() for name, tensor in model.named_parameters()}

    def loss(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_of(functional_call(model, params, (x,)), y)

    @torch.compile(dynamic=False)
    def step(params: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        gradients = grad(loss)(params, x, y)
        return {name: p + (-learning_rate * gradients[name]) for name, p in params.items()}

    def train(batches: Batches) -> None:
        params = dict(held)
        for x, y in batches:
            params = step(params, x, y)
        held.update(params)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(params[name])

    return train


VARIANTS = {"eager": eager, "compiled": compiled}


@lru_cache
def _data(work: Work) -> tuple[Tensor, Tensor]:
    """Return all examples on the device."""
    x, y = (torch.from_numpy(np.array(array)).to(work.device) for array in work.arrays())
    return x, y


def batches(work: Work, clients: Iterable[int], chance: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of these clients, one after the other, each in a new order."""
    x, y = _data(work)
    for client in clients:
        for _ in range(work.epochs):
            rows = torch.from_numpy(client * work.examples + chance.permutation(work.examples)).to(x.device)
            mine, targets = x[rows], y[rows]
            yield from zip(mine.split(work.batch), targets.split(work.batch), strict=True)


def _process(number: int, work: Work, variant: str, gate: Any, results: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chance = np.random.default_rng(number)
    model = build(work).to(work.device)
    train, share = VARIANTS[variant](model, work.learning_rate), len(range(number, work.cohort, work.workers))
    stamps = []
    for round_ in range(work.total_rounds):
        train(batches(work, chance.integers(work.clients, size=share), chance))
        if work.device != "cpu":
            torch.cuda.synchronize()
        stamps.append(time.monotonic())
        if round_ + 1 == work.warmup:
            gate.wait(PATIENCE)  # from here on all of them are at it
            stamps[-1] = time.monotonic()
    gate.wait(PATIENCE)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    results.put({"stamps": stamps, "samples": share * work.examples * work.epochs, "parameters": parameters})


def measure(work: Work, variant: str) -> dict[str, Any]:
    """Run one process a worker, and return what each did."""
    context = mp.get_context("spawn")
    gate, results = context.Barrier(work.workers), context.SimpleQueue()
    told = (work, variant, gate, results)
    processes = [context.Process(target=_process, args=(n, *told), daemon=True) for n in range(work.workers)]
    for process in processes:
        process.start()
    alive = {process.sentinel: process for process in processes}
    while alive:
        for sentinel in wait(list(alive)):
            if code := alive.pop(sentinel).exitcode:
                raise SystemExit(f"bare loop: a process ended with exit code {code}")  # the others end with us
    found = [results.get() for _ in processes]
    tracks = [{"stamps": one["stamps"], "samples": one["samples"]} for one in found]
    return {"tracks": tracks, "parameters": found[0]["parameters"]}


if __name__ == "__main__":
    print(json.dumps(measure(read(sys.argv[1]), sys.argv[2])))
