"""Objects over a pipe, tensors by value.

`Connection.send` would hand tensors over as shared files, one each; those that travel here are small.
"""

import io
import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch


@dataclass
class Failed:
    """What a worker sends in place of a result when its own code, or a strategy's server half, raised."""

    trace: str


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Pickle a tensor as an array."""
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().cpu().contiguous().numpy(),)
        return NotImplemented


def send(connection: Connection, value: Any) -> None:
    """Send an object."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    connection.send_bytes(buffer.getbuffer())


def receive(connection: Connection) -> Any:
    """Receive an object.

    Raises:
        EOFError: the other end is closed.
    """
    return pickle.loads(connection.recv_bytes())
