"""Every private name of flwr that this project uses stands here, so that an upgrade has one place to look."""

from flwr.app import Message
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["Run", "ensure_identity", "set_message_id"]


def ensure_identity() -> None:
    """Let `Message(…)` be built outside of a Flower runtime: it reads run and sender from the process's identity.

    Inside a runtime the identity is set already and stays as it is.
    """
    if TaskIdentity._run_id is None:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = 0, 0, 0


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id
