"""Every private name of flwr that this project uses stands here, so that an upgrade has one place to look."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = [
    "MEMORY",
    "SUPERLINK_NODE_ID",
    "ErrorCode",
    "Run",
    "check_component",
    "check_pyproject",
    "client_app_error",
    "ensure_identity",
    "flat",
    "fused",
    "identity",
    "instruction",
    "legacy_replies_in_order",
    "load_component",
    "parse_overrides",
    "quiet",
    "set_message_id",
    "unavailable",
]

MEMORY: dict[str, tuple[str, ...]] = {
    "FedAvg": (),
    "FedProx": (),
    "FedMedian": (),
    "FedTrimmedAvg": (),
    "Krum": (),
    "MultiKrum": (),
    "Bulyan": (),
    "QFedAvg": (),  # it sets `current_arrays` anew in every round, as do those of the next three lines
    "FedAdagrad": ("m_t", "v_t"),
    "FedAdam": ("m_t", "v_t"),
    "FedYogi": ("m_t", "v_t"),
    "FedAvgM": ("current_arrays", "momentum_vector"),
}
"""Flower's strategy -> those of its attributes that a later round needs."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Flower's own narration: the run's table tells it."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def ensure_identity() -> None:
    """Let `Message(…)` be built outside of a Flower runtime: it reads run and sender from the process's identity.

    Inside a runtime the identity is set already and stays as it is.
    """
    if TaskIdentity._run_id is None:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = 0, 0, 0


@contextmanager
def identity(run_id: int, node_id: int) -> Iterator[None]:
    """Be this node of this run meanwhile, as Flower's own processes are."""
    before = TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id
    TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = 1, run_id, node_id
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id


def instruction(message: Message) -> Message:
    """Return a message of the same metadata without its content: enough to reply to."""
    metadata = type(message.metadata).__new__(type(message.metadata))
    metadata.__dict__.update(message.metadata.__dict__)
    return Message(content=RecordDict(), metadata=metadata)  # type: ignore[call-overload]


def unavailable(message_id: str, run_id: int) -> Message:
    """Return what Flower's SuperLink answers about a message that it does not have (any more)."""
    metadata = Metadata(
        run_id=run_id,
        message_id="",
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=SUPERLINK_NODE_ID,
        reply_to_message_id=message_id,
        group_id="",
        created_at=time.time(),
        ttl=0,
        message_type=SYSTEM_MESSAGE_TYPE,
    )
    reason = "Message unavailable: its reply was pulled before, or its time to live is over, or it never was."
    error = Error(ErrorCode.MESSAGE_UNAVAILABLE, reason)
    return Message(error=error, metadata=metadata)  # type: ignore[call-overload]


def client_app_error(error: BaseException) -> Error:
    """Return the error that Flower's simulation sends where a ClientApp raised."""
    from flwr.clientapp.client_app import ClientAppException

    try:
        said = str(error)
    except Exception as worse:  # an exception that cannot be printed
        said = f"{type(error).__name__}, whose text raises {type(worse).__name__}"
    wrapped = ClientAppException(said)
    return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(wrapped)}:<'{wrapped}'>")


def check_pyproject(tables: dict[str, Any]) -> list[str]:
    """Return what Flower finds wrong in an app's pyproject.toml, components left out."""
    from flwr.common.config import validate_fields_in_config
    from flwr.supercore.fab_format_version import normalize_and_validate_fab_format

    try:
        _, errors, _ = validate_fields_in_config(tables)
        if not errors:
            normalize_and_validate_fab_format(tables)
    except ValueError as error:  # a run config's value of a wrong type; a format of another Flower
        return [str(error)]
    return errors


def check_component(reference: str, folder: Path) -> str:
    """Return why Flower would refuse "module:attribute", or an empty string."""
    from flwr.supercore.object_ref import OBJECT_REF_HELP_STR, validate

    _, reason = validate(reference, True, folder)
    return (reason or "").removesuffix(OBJECT_REF_HELP_STR)


def load_component(reference: str, folder: Path) -> Any:
    """Import "module:attribute" with the folder on `sys.path`, as Flower does."""
    from flwr.supercore.object_ref import load_app

    return load_app(reference, ImportError, folder)


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """Read `--run-config`: `key=value key2="x"`, or one TOML file; raises what Flower raises."""
    from flwr.common.config import parse_config_args

    return parse_config_args(overrides)


def flat(tables: dict[str, Any]) -> dict[str, Any]:
    """Flatten a run config: `{"a": {"b": 1}}` becomes `{"a.b": 1}`; ValueError where a type is not allowed."""
    from flwr.common.config import flatten_dict

    return dict(flatten_dict(tables))


def fused(defaults: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with the overrides over them; ValueError where a key is unknown."""
    from flwr.common.config import fuse_dicts

    return fuse_dicts(defaults, overrides)


@contextmanager
def legacy_replies_in_order() -> Iterator[None]:
    """Let `flwr.server` hand results to its strategies in the order asked.

    It gathers them from a set of futures, so that sums of floats differ from run to run.
    """
    from flwr.server import server

    module: Any = server
    originals = {name: getattr(module, name) for name in ("fit_clients", "evaluate_clients")}
    for name, original in originals.items():
        setattr(module, name, _sorted_results(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(module, name, original)


def _sorted_results(gather: Callable[..., Any]) -> Callable[..., Any]:
    def in_order(client_instructions: list[Any], *rest: Any, **named: Any) -> Any:
        results, failures = gather(client_instructions, *rest, **named)
        place = {id(proxy): number for number, (proxy, _) in enumerate(client_instructions)}
        return sorted(results, key=lambda result: place[id(result[0])]), failures

    return in_order
