"""Exchanges over Flower's own grids: who holds which client, and replies folded along the tree as they come."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedjourney import messages
from fedjourney.errors import RunError
from fedjourney.exchange import Answer, Block, Exchange, Problem, fold_block
from fedjourney.plan import Plan

NOBODY = 0  # no node has this id
LOOK_SECONDS = 0.5  # between two looks for new nodes


class Network:
    """Carries exchanges to the nodes that hold the clients."""

    def __init__(self, plan: Plan, nodes: dict[int, int], run: dict[str, Any]) -> None:
        """Take client index -> node from roll call, and what every client machine must know of the run."""
        self._plan, self._nodes, self._run = plan, nodes, run
        self._exchange: Exchange | None = None
        self._count, self._group = 0, ""

    def send(self, exchange: Exchange) -> list[Message]:
        """Return one message per node."""
        self._exchange = exchange
        self._count += 1
        self._group = f"{exchange.round}.{self._count}"
        return messages.write_exchange(exchange, self._run, self._nodes, self._group)

    def receive(self, replies: Iterable[Message]) -> Iterator[Block]:
        """Fold replies in the order asked, holding as few as arrive early.

        One that comes after its exchange was over changes nothing: its client was told as lost then.
        """
        exchange, arriving = self._exchange, iter(replies)
        self._exchange = None  # a round without evaluation sends nothing, and has no replies to miss
        if exchange is None:
            return
        waiting: dict[int, Answer] = {}
        asked: dict[int, list[int]] = {}
        for client in exchange.clients:
            asked.setdefault(self._nodes.get(client, NOBODY), []).append(client)

        def answers(clients: list[int]) -> Iterator[Answer]:
            for client in clients:
                while client not in waiting:
                    reply = next(arriving, None)
                    if reply is None:
                        break
                    if reply.metadata.group_id not in (self._group, ""):  # Flower's own errors bear none
                        continue
                    own = asked.get(reply.metadata.src_node_id, [])
                    waiting.update(messages.read_answers(reply, own))
                lost = Answer(client, problem=Problem("lost", exchange.work, "no reply before the deadline"))
                yield waiting.pop(client, lost)

        for block in exchange.cut(self._plan.experiment["numerics"]["lanes"]):
            if exchange.kind == "evaluate":
                yield Block(list(answers(block.clients)))
            else:
                yield fold_block(self._plan.rounds, self._plan.transforms, exchange.like, answers(block.clients))


def roll_call(grid: Grid, clients: int, deadline: float) -> dict[int, int]:
    """Return client index -> node, asking every node which indices it holds, until all N are held.

    Args:
        grid: Flower's.
        clients: N.
        deadline: seconds to wait at most.

    Raises:
        RunError: two nodes hold one index, or nobody holds any at the deadline.
    """
    held: dict[int, int] = {}
    seen: set[int] = set()
    end = time.monotonic() + deadline
    while True:
        new = [node for node in grid.get_node_ids() if node not in seen]
        asks = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in new]
        for reply in grid.send_and_receive(asks, timeout=max(end - time.monotonic(), 1.0)) if asks else ():
            if not reply.has_content():
                continue
            node = reply.metadata.src_node_id
            config: dict[str, Any] = dict(reply.content["node"])
            seen.add(node)
            for index in range(int(config["partition-id"]), clients, int(config["num-partitions"])):
                if held.setdefault(index, node) != node:
                    raise RunError(
                        f"roll call: expected one holder of client {index}, got two nodes. "
                        "Give each node its own partition-id."
                    )
        if len(held) == clients:
            return held
        if time.monotonic() >= end:
            if held:
                return held
            raise RunError(f"roll call: expected nodes that hold clients, got none within {deadline:g} s.")
        time.sleep(LOOK_SECONDS)
