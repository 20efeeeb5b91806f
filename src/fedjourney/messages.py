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


def write_ask(arrays: ArrayRecord, row: Tensors, ask: dict[str, Any]) -> RecordDict:
    """Return the content of a message to one client; `arrays` is encoded once for all of them."""
    records: dict[str, Any] = {"arrays": arrays, "config": ConfigRecord(ask)}
    if row:
        records["row"] = to_arrays(row)
    return RecordDict(records)


def read_ask(content: RecordDict) -> tuple[Tensors, Tensors, dict[str, Any]]:
    """Return (shared, row, ask)."""
    row = to_tensors(arrays_of(content, "row")) if "row" in content else {}
    return to_tensors(arrays_of(content, "arrays")), row, dict(content["config"])


def write_answer(ask: dict[str, Any], answer: Answer) -> RecordDict:
    """Return the content of a reply."""
    return RecordDict(
        {
            "arrays": to_arrays(answer.tensors),
            "metrics": MetricRecord({**answer.metrics}),
            "config": ConfigRecord(
                {
                    "client": ask["client"],
                    "round": ask["round"],
                    "error": answer.error,
                    "kept": int(answer.kept),
                }
            ),
        }
    )


def read_answer(content: RecordDict) -> tuple[int, Answer]:
    """Return (client index, answer)."""
    config: dict[str, Any] = dict(content["config"])
    numbers: dict[str, Any] = dict(content["metrics"])
    metrics = {name: float(value) for name, value in numbers.items()}
    return int(config["client"]), Answer(
        to_tensors(arrays_of(content, "arrays")), metrics, str(config["error"]), bool(config["kept"])
    )
