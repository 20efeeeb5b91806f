"""Between exchanges and Flower's messages: what travels to a client machine and back."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedjourney.exchange import Answer, Exchange, Problem
from fedjourney.tally import Computed
from fedjourney.tensors import Tensors


def to_arrays(tensors: Tensors) -> ArrayRecord:
    """Return tensors as Flower arrays, names and order kept."""
    return ArrayRecord({name: Array(t.detach().cpu().contiguous().numpy()) for name, t in tensors.items()})


def to_tensors(record: Any) -> Tensors:
    """Return Flower arrays as tensors of our own memory.

    Raises:
        TypeError: it is a record of another kind.
    """
    if not isinstance(record, ArrayRecord):
        raise TypeError(f"expected arrays, got {type(record).__name__}")
    return {name: torch.from_numpy(np.array(array.numpy())) for name, array in record.items()}


def write_exchange(exchange: Exchange, run: dict[str, Any], nodes: Mapping[int, int], group: str) -> list[Message]:
    """Return one message per node with the asks of all its clients.

    A SuperNode starts a process for every message, so a message per client would cost seconds each. It is a list,
    not a generator: Flower's grids go over it twice.

    Args:
        exchange: what is asked of whom.
        run: what a client machine must know of the run.
        nodes: client index -> node.
        group: the exchange's own; replies bear it.
    """
    places: dict[int, list[int]] = {}
    for place, client in enumerate(exchange.clients):
        if client in nodes:  # one that nobody holds is not asked, and counts as lost
            places.setdefault(nodes[client], []).append(place)
    arrays = to_arrays(exchange.shared)  # encoded once for all nodes
    told = run | {"round": exchange.round, "work": exchange.work}
    messages = []
    for node, own in places.items():
        part = exchange.at(own)
        rows = {f"row/{client}": to_arrays(row) for client, row in zip(part.clients, part.rows, strict=False) if row}
        states = {"state-rounds": part.states, "state-resumes": part.resumes}
        config = ConfigRecord(told | {"clients": part.clients, **states})
        content = RecordDict({"arrays": arrays, "config": config, **rows})
        messages.append(Message(content, dst_node_id=node, message_type=exchange.kind, group_id=group))
    return messages


def read_run(content: RecordDict) -> dict[str, Any]:
    """Return what a message says of the run."""
    return dict(cast(ConfigRecord, content["config"]))


def read_exchange(content: RecordDict, kind: str) -> Exchange:
    """Return what a message asks of the clients of this node."""
    told = read_run(content)
    clients = list(told["clients"])
    rows = [to_tensors(content[name]) if (name := f"row/{client}") in content else {} for client in clients]
    category: Literal["train", "evaluate"] = "evaluate" if kind == "evaluate" else "train"
    shared = to_tensors(content["arrays"])
    states, resumes = list(told["state-rounds"]), list(told["state-resumes"])
    return Exchange(category, told["round"], told["work"], shared, clients, states, rows, resumes=resumes)


def write_answers(answers: Iterable[Answer]) -> RecordDict:
    """Return the content of a reply: the answer of each client of a message."""
    records: dict[str, Any] = {}
    for answer in answers:
        told: dict[str, Any] = {"kept": answer.kept, "computed": list(answer.computed)}
        told |= answer.problem._asdict() if answer.problem else {}
        records[f"arrays/{answer.client}"] = to_arrays(answer.tensors)
        records[f"metrics/{answer.client}"] = MetricRecord({**answer.metrics})
        records[f"config/{answer.client}"] = ConfigRecord(told)
    return RecordDict(records)


def read_answers(reply: Message, asked: Iterable[int]) -> dict[int, Answer]:
    """Return client index -> answer for those of `asked` that the reply speaks of.

    A reply comes over a network: one without the right form costs that client's reply, nothing more.
    """
    if not reply.has_content():
        reason = f"the node could not answer: {reply.error.reason}"
        return {client: Answer(client, problem=Problem("failed", "node", reason)) for client in asked}
    content, found = reply.content, {}
    for client in asked:
        if f"config/{client}" not in content:
            continue
        try:
            found[client] = _answer(content, client)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            found[client] = Answer(client, problem=Problem("malformed", "reply", said))
    return found


def _answer(content: RecordDict, client: int) -> Answer:
    told: dict[str, Any] = dict(cast(ConfigRecord, content[f"config/{client}"]))
    numbers: dict[str, Any] = dict(cast(MetricRecord, content[f"metrics/{client}"]))
    answer = Answer(client, kept=bool(told["kept"]), computed=Computed(*told.get("computed", ())))
    if "kind" in told:
        return replace(answer, problem=Problem(str(told["kind"]), str(told["stage"]), str(told["message"])))
    metrics = {name: float(value) for name, value in numbers.items()}
    return replace(answer, tensors=to_tensors(content[f"arrays/{client}"]), metrics=metrics)
