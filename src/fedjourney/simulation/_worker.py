"""A worker process of a simulation: imports the ClientApp once, answers one message at a time.

Frames come on standard input and go to standard output; what the app prints is caught and sent with the reply,
so that the screen shows it in the order asked and under no other client's line.
"""

import functools
import io
import os
import pickle
import queue
import signal
import sys
import threading
from typing import IO, Any, NoReturn


class _Sink(io.BufferedIOBase):
    """The bytes below a standard stream, kept as text until it is asked for."""

    def __init__(self, number: int, kept: list[tuple[int, str]], real: Any) -> None:
        self._number, self._kept, self._real = number, kept, real
        self.name = real.name

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data).decode("utf-8", "replace")
        if self._kept and self._kept[-1][0] == self._number:
            self._kept[-1] = (self._number, self._kept[-1][1] + text)
        else:
            self._kept.append((self._number, text))
        return len(data)

    def fileno(self) -> int:
        return int(self._real.fileno())

    def isatty(self) -> bool:
        return False


def _caught(number: int, kept: list[tuple[int, str]], real: Any) -> io.TextIOWrapper:
    """Return a standard stream as apps know it, `buffer` and `reconfigure` included, whose text is kept."""
    stream = io.TextIOWrapper(_Sink(number, kept, real), "utf-8", "replace", newline="\n", write_through=True)
    stream.mode = "w"  # type: ignore[misc]  # as Python sets it itself
    return stream


def main() -> None:
    """Serve until the other end closes."""
    received, replies = _take_over_streams()
    output: list[tuple[int, str]] = []
    sys.stdout, sys.stderr = _caught(1, output, sys.stdout), _caught(2, output, sys.stderr)
    sys.breakpointhook = _no_breakpoint

    from fedjourney import flower_private
    from fedjourney.simulation import app as apps
    from fedjourney.simulation import codec
    from fedjourney.simulation.answer import Answer, answer, described

    inbox: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(received, inbox), daemon=True).start()
    app, setting = pickle.loads(inbox.get()[0])
    failure, client = None, None
    try:
        client = apps.load(app, "client")
    except (Exception, SystemExit) as error:
        failure = described(error)
    codec.write_frames(replies, [pickle.dumps((failure, output))])
    if client is None:
        return
    known: dict[int, bytes] = {}
    while True:
        frames = inbox.get()
        partition, count, tokens, dropped, has_context = pickle.loads(frames[0])
        context = frames[2] if has_context else None
        for token in dropped:
            known.pop(token, None)
        known.update(zip(tokens, frames[2 + has_context :], strict=True))
        pickled = frames[1]
        output.clear()
        with flower_private.identity(setting.run_id, setting.nodes[partition]):
            read = functools.partial(codec.loads, pickled, known.__getitem__)
            got: Answer = answer(client, setting, partition, count, context, read)
        got.output = list(output)
        apart = [*got.blobs, *([got.context] if got.context is not None else [])]
        got.blobs, got.context = [], None if got.context is None else b""
        codec.write_frames(replies, [pickle.dumps(got), *apart])


def _take_over_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Return private copies of standard input and output; the public ones become nothing, and standard error."""
    received, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what C code and subprocesses print
    os.close(nothing)
    return received, replies


def _listen(received: IO[bytes], inbox: "queue.SimpleQueue[list[bytes]]") -> NoReturn:
    """Read frames as they come; at their end, end this process and what it started, whatever runs."""
    from fedjourney.simulation import codec

    try:
        while True:
            inbox.put(codec.read_frames(received))
    except (EOFError, OSError):
        if sys.platform != "win32":
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _no_breakpoint(*arguments: object, **named: object) -> NoReturn:
    raise RuntimeError("a breakpoint stops only in this process: run with --workers 0")


if __name__ == "__main__":
    main()
