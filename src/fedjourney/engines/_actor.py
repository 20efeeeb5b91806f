"""What runs on a Ray cluster: one client side an actor; tensors travel as arrays through the object store."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from fedjourney.engines._shared import joined
from fedjourney.exchange import Exchange, blank
from fedjourney.tensors import Tensors

Arrays: TypeAlias = dict[str, np.ndarray]


def packed(tensors: Tensors) -> Arrays:
    """Return tensors as arrays, which the object store keeps without copies."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def unpacked(arrays: Arrays, copy: bool = True) -> Tensors:
    """Return arrays as tensors; without a copy they may only be read."""
    if copy:
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the store's memory is read-only
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class CarriedStates:
    """Client state that came with the ask, and goes back with the answer."""

    def __init__(self) -> None:
        self.given: dict[int, Tensors | None] = {}
        self.kept: dict[int, Tensors] = {}

    def load(self, client: int, round: int) -> Tensors | None:
        """Return what came for that client."""
        return self.given[client]

    def save(self, client: int, round: int, state: Tensors, oldest: int) -> None:
        """Keep what is to go back."""
        self.kept[client] = {name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}


class Actor:
    """One client side on a node."""

    def __init__(self, first: dict[str, Any]) -> None:
        """Build the plan over the data of the object store."""
        from fedjourney import config
        from fedjourney.client import ClientSide
        from fedjourney.plan import plan

        torch.set_num_threads(first["threads"])
        experiment = config.parse(first["text"], base_dir=Path(first["base_dir"]))
        given = joined(unpacked(first["arrays"], copy=False), first["rest"])
        self._states = CarriedStates()
        self._side = ClientSide(plan(experiment, given=given), self._states)

    def ready(self) -> None:
        """Return once the actor can work."""

    def block(
        self,
        header: tuple[Any, ...],
        shared: Arrays,
        clients: list[int],
        round_of_state: list[int],
        rows: list[Arrays],
        states: dict[int, Arrays | None],
    ) -> tuple[Any, ...]:
        """Return (answers, their tensors where there is no fold, (sums, weight) or None, state kept by client)."""
        kind, round_, work, like = header
        exchange = Exchange(kind, round_, work, unpacked(shared), clients, round_of_state, like=blank(like))
        exchange = replace(exchange, rows=[unpacked(row) for row in rows])
        self._states.given = {c: None if s is None else unpacked(s) for c, s in states.items()}
        self._states.kept = {}
        block = self._side.block(exchange)
        tensors = [packed(answer.tensors) for answer in block.answers]
        for answer in block.answers:
            answer.tensors = {}
        sums = None if block.sums is None else (packed(block.sums.tensors), block.sums.weight)
        return block.answers, tensors, sums, {client: packed(state) for client, state in self._states.kept.items()}

    def score(self, params: Arrays, split: str, start: int, stop: int) -> Arrays:
        """Return the sums of one evaluation block."""
        return packed(self._side.plan.score(unpacked(params, copy=False), split, slice(start, stop)))
