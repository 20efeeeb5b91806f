"""Worker processes of a simulation: started once, one message at a time each, replaced when they are killed.

A worker is `python -m fedjourney.simulation._worker`, spawned fresh on every system, with frames of bytes on its
standard input and output. It ends when its input does, so nothing outlives this process, however it ends.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from typing import IO, Any

from flwr.app import Error

from fedjourney.environment import worker_environment
from fedjourney.flower_private import ErrorCode
from fedjourney.simulation import codec
from fedjourney.simulation.answer import Answer, Failure, failed
from fedjourney.simulation.desk import Desk, Job, StoppedError
from fedjourney.simulation.terminal import Terminal

TRIES = 2  # a message that took a worker down with it twice is not tried again
KEPT = 3  # a worker keeps large bytes up to so many times those of its last message: models of a round come again


class AppError(Exception):
    """The app failed: its ServerApp raised, or its ClientApp cannot be loaded. Its cause is the app's own error."""

    def __init__(self, line: str, trace: str = "") -> None:
        super().__init__(line)
        self.trace = trace


class Pool:
    """Starts workers, gives them the desk's messages; a context manager.

    Args:
        desk: where messages wait.
        terminal: shows what a ClientApp prints while it is imported.
        number: how many workers.
        first: what every worker is told at its start: the app's folder and reference, the setting.
    """

    def __init__(self, desk: Desk, terminal: Terminal, number: int, first: tuple[Any, ...]) -> None:
        self.desk, self.terminal = desk, terminal
        self.first = pickle.dumps(first)
        self.closing = False
        self._up = 0
        self._hands = [_Hand(self) for _ in range(number)]

    def __enter__(self) -> "Pool":
        try:
            for hand in self._hands:
                hand.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing = True
        self.desk.stop(StoppedError("the simulation has ended"))
        for hand in self._hands:
            hand.end()
        for hand in self._hands:
            if hand.ident is not None:
                hand.join()
            hand.close()

    def wait(self) -> None:
        """Wait until a worker has imported the ClientApp.

        Raises:
            AppError: it cannot be imported.
        """
        with self.desk.changed:
            while not self._up and self.desk.problem is None:
                self.desk.changed.wait(0.2)
            if self.desk.problem is not None:
                raise self.desk.problem

    def came_up(self, output: list[tuple[int, str]]) -> None:
        """Count a worker; the first one's output is shown, for all print the same."""
        with self.desk.changed:
            if not self._up:
                self.terminal.show(output)
            self._up += 1
            self.desk.changed.notify_all()


class _Hand(threading.Thread):
    """Serves one worker process."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._process = self._spawn()
        self._known: OrderedDict[int, codec.Blob] = OrderedDict()  # what the process keeps, longest unused first

    def run(self) -> None:
        """Give it message after message."""
        try:
            self._greet()
            while (taken := self._pool.desk.take()) is not None:
                self._pool.desk.finish(taken[0], self._compute(*taken))
        except Exception as error:
            if not self._pool.closing:
                self._pool.desk.stop(error)

    def end(self) -> None:
        """End the process and whatever it started; can be repeated, and from another thread."""
        with contextlib.suppress(OSError):
            if self._process.returncode is not None:  # collected: its number may be somebody else's by now
                return
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the process, even one that was just begun, and let go of its streams."""
        self.end()
        for stream in (_input(self._process), _output(self._process)):
            with contextlib.suppress(OSError):  # what it no longer reads
                stream.close()

    def _compute(self, job: Job, context: bytes | None) -> Answer:
        for tried in range(1, TRIES + 1):
            try:
                return self._ask(job, context)
            except (EOFError, OSError):
                if self._pool.closing:
                    raise
                self.end()
                how = _ending(self._process.returncode)
                told = f'partition-id {job.partition}, "{job.sent.metadata.message_type}"'
                again = "; it is run once more" if tried < TRIES else ""
                self._pool.terminal.say(f"fedjourney: a worker {how} during a message to {told}{again}")
                self._replace()
        said = f"its worker {how}, twice"
        return failed(Error(ErrorCode.CLIENT_APP_CRASHED, said), Failure(said))

    def _ask(self, job: Job, context: bytes | None) -> Answer:
        new = [blob for blob in job.blobs if blob.token not in self._known]
        for blob in job.blobs:
            self._known[blob.token] = blob
            self._known.move_to_end(blob.token)
        room = KEPT * sum(len(blob.data) for blob in job.blobs)
        size = sum(len(blob.data) for blob in self._known.values())
        dropped = []
        while size > room and len(self._known) > len(job.blobs):
            token, blob = self._known.popitem(last=False)
            size -= len(blob.data)
            dropped.append(token)
        head = (job.partition, job.count, [blob.token for blob in new], dropped, context is not None)
        frames = [pickle.dumps(head), job.pickled, *([context] if context is not None else [])]
        codec.write_frames(_input(self._process), frames + [blob.data for blob in new])
        return self._receive()

    def _receive(self) -> Answer:
        head, *frames = codec.read_frames(_output(self._process))
        answer: Answer = pickle.loads(head)
        if answer.context is not None:
            answer.context = frames.pop()
        answer.blobs = frames
        return answer

    def _spawn(self) -> "subprocess.Popen[bytes]":
        order = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")}  # sets of text have the same order in all
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedjourney.simulation._worker"],  # -P: no working directory on sys.path
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which then ends its workers
            env=worker_environment(threads=1) | order,
        )
        with contextlib.suppress(OSError):
            codec.write_frames(_input(process), [self._pool.first])
        return process

    def _greet(self, tried: int = 1) -> None:
        try:
            head, *_ = codec.read_frames(_output(self._process))
        except (EOFError, OSError):
            if self._pool.closing:
                raise
            self.end()
            how = _ending(self._process.returncode)
            if tried < TRIES:
                self._pool.terminal.say(f"fedjourney: a worker {how} before it could work; it is started once more")
                self.close()
                self._process = self._spawn()
                self._greet(tried + 1)
                return
            raise AppError(f"a worker {how} before it could work. Try --workers 0, which shows why.") from None
        failure, output = pickle.loads(head)
        if failure is not None:
            self._pool.terminal.show(output)
            raise AppError(f"the ClientApp cannot be loaded: {failure.line}", failure.trace)
        self._pool.came_up(output)

    def _replace(self) -> None:
        self._known.clear()
        self.close()
        self._process = self._spawn()
        self._greet()


def _input(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _output(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
