"""One message, answered by the ClientApp: the same code in a worker process and in this one."""

import bdb
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict

from fedjourney import flower_private
from fedjourney.simulation import codec
from fedjourney.simulation.randomness import seed_globals

OURS = str(Path(__file__).parent)
NO_REPLY = (
    "the ClientApp returned {}, expected a reply to the message: `return Message(content, reply_to=message)`. "
    "Flower's own simulation would wait for it for ever."
)


@dataclass(frozen=True)
class Setting:
    """What is the same for every message of a run."""

    run_id: int
    run_config: dict[str, Any]
    nodes: tuple[int, ...]  # node ids by partition
    seed: int


@dataclass
class Answer:
    """What a message led to; `reply` is a pickled Message or, with `failure`, a pickled Error."""

    reply: bytes
    blobs: list[bytes] = field(default_factory=list)
    context: bytes | None = None  # the node's new context; None: as it was
    failure: "Failure | None" = None
    output: list[tuple[int, str]] = field(default_factory=list)  # (1 or 2, text) in the order written


@dataclass
class Failure:
    """Why there is no good reply: a line, the traceback of the app's own code, and where it was raised."""

    line: str
    trace: str = ""
    place: str = ""


def answer(
    app: Callable[[Message, Context], Message],
    setting: Setting,
    partition: int,
    count: int,
    context: bytes | None,
    read: Callable[[], Message],
    interruptible: bool = False,
) -> Answer:
    """Run the ClientApp on one message.

    Args:
        app: the ClientApp.
        setting: the run.
        partition: index of the node.
        count: messages that the node had before; with seed and partition it seeds the global generators.
        context: the node's pickled context, None before its first message.
        read: builds the message.
        interruptible: whether a KeyboardInterrupt is the user's, not the app's own.
    """
    try:
        message = read()
        held = _context(setting, partition, context)
        seed_globals(setting.seed, partition, count)
        reply = app(message, held)
        if not isinstance(reply, Message) or not _replies_to(reply, message):
            said = NO_REPLY.format(type(reply).__name__ if not isinstance(reply, Message) else "another message")
            return failed(flower_private.client_app_error(TypeError(said)), Failure(said))
        pickled, blobs = codec.dumps_apart(reply)
        after = codec.dumps(held)
    except BaseException as error:  # whatever a client raises costs its reply, not its worker
        if isinstance(error, bdb.BdbQuit):  # `q` in a debugger
            raise KeyboardInterrupt from error
        if isinstance(error, KeyboardInterrupt) and interruptible:
            raise
        return failed(flower_private.client_app_error(error), described(error))
    return Answer(pickled, blobs, None if after == context else after)


def failed(error: Error, failure: Failure) -> Answer:
    """Return an answer that is an error."""
    return Answer(codec.dumps(error), failure=failure)


def described(error: BaseException) -> Failure:
    """Return an error's last line and its traceback from the app's first frame on."""
    seen: TracebackError = traceback.TracebackException.from_exception(error)
    for link in _chain(seen):
        frames = link.stack
        while frames and _foreign(frames[0].filename):
            frames = traceback.StackSummary.from_list(frames[1:])
        link.stack = frames or link.stack
    last = seen.stack[-1] if seen.stack else None
    place = f"{type(error).__qualname__} {last.filename}:{last.lineno}" if last else type(error).__qualname__
    line = "".join(traceback.format_exception_only(error)).strip()
    return Failure(line, "".join(seen.format()), place)


TracebackError = traceback.TracebackException


def _chain(seen: TracebackError) -> list[TracebackError]:
    links, todo = [], [seen]
    while todo:
        link = todo.pop()
        links.append(link)
        todo += [other for other in (link.__cause__, link.__context__) if other is not None]
    return links


def _foreign(filename: str) -> bool:
    """Whether a frame is ours or Flower's or the import machinery's."""
    flwr = str(Path(sys.modules["flwr"].__file__ or "").parent)
    return filename.startswith((OURS, flwr, "<frozen importlib")) or filename in (flower_private.__file__, _IMPORTLIB)


_IMPORTLIB = sys.modules["importlib"].__file__


def _context(setting: Setting, partition: int, context: bytes | None) -> Context:
    if context is not None:
        held: Context = codec.loads(context, _nothing)
        return held
    return Context(
        run_id=setting.run_id,
        node_id=setting.nodes[partition],
        node_config={"partition-id": partition, "num-partitions": len(setting.nodes)},
        state=RecordDict(),
        run_config=dict(setting.run_config),
    )


def _nothing(token: int) -> bytes:
    raise KeyError(token)


def _replies_to(reply: Message, message: Message) -> bool:
    told, asked = reply.metadata, message.metadata
    return told.reply_to_message_id == asked.message_id and told.src_node_id == asked.dst_node_id
