"""Between our tensors and Flower's records: what an ask and an answer look like in a message."""

from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedjourney.client import Answer
from fedjourney.tensors import Tensors


def to_arrays(tensors: Tensors) -> ArrayRecord:
    """Return tensors as Flower arrays, names and order kept."""
    return ArrayRecord({name: Array(np.ascontiguousarray(t.detach().cpu().numpy())) for name, t in tensors.items()})


def to_tensors(record: ArrayRecord) -> Tensors:
    """Return Flower arrays as tensors of our own memory."""
    return {name: torch.from_numpy(np.array(array.numpy())) for name, array in record.items()}


def arrays_of(content: RecordDict, name: str) -> ArrayRecord:
    """Return the array record of that name.

    Raises:
        TypeError: it is a record of another kind.
    """
    record = content[name]
    if not isinstance(record, ArrayRecord):
        raise TypeError(f'expected arrays under "{name}", got {type(record).__name__}')
    return record


def write_asks(arrays: ArrayRecord, common: dict[str, Any], clients: dict[int, tuple[int, Tensors]]) -> RecordDict:
    """Return the content of a message to one node.

    Args:
        arrays: what everyone receives, encoded once for all messages.
        common: what is the same for all clients of the message.
        clients: index -> (round of the state that counted last or -1, its own row).
    """
    told = common | {"clients": list(clients), "state-rounds": [round_ for round_, _ in clients.values()]}
    rows = {f"row/{index}": to_arrays(row) for index, (_, row) in clients.items() if row}
    return RecordDict({"arrays": arrays, "config": ConfigRecord(told), **rows})


def read_asks(content: RecordDict) -> list[tuple[Tensors, dict[str, Any]]]:
    """Return (row, ask) for each client that a message is for."""
    told: dict[str, Any] = dict(content["config"])
    clients, state_rounds = told.pop("clients"), told.pop("state-rounds")
    return [
        (
            to_tensors(arrays_of(content, f"row/{client}")) if f"row/{client}" in content else {},
            told | {"client": client, "state-round": state_round},
        )
        for client, state_round in zip(clients, state_rounds, strict=True)
    ]


def write_answers(answers: dict[int, Answer]) -> RecordDict:
    """Return the content of a reply: the answer of each client of a message."""
    records: dict[str, Any] = {}
    for client, answer in answers.items():
        records[f"arrays/{client}"] = to_arrays(answer.tensors)
        records[f"metrics/{client}"] = MetricRecord({**answer.metrics})
        records[f"config/{client}"] = ConfigRecord({"error": answer.error, "kept": answer.kept})
    return RecordDict(records)


def read_answers(content: RecordDict) -> dict[int, Answer]:
    """Return client index -> answer."""
    found = {}
    for name in content:
        kind, _, client = name.partition("/")
        if kind == "config":
            config: dict[str, Any] = dict(content[name])
            numbers: dict[str, Any] = dict(content[f"metrics/{client}"])
            metrics = {key: float(value) for key, value in numbers.items()}
            tensors = to_tensors(arrays_of(content, f"arrays/{client}"))
            found[int(client)] = Answer(tensors, metrics, str(config["error"]), bool(config["kept"]))
    return found
