"""Anybody's Flower strategy as one of ours: its class by name, its options from TOML, its rounds in our engines.

Ours are the cohort, the clients' work, checkpoint, records and evaluation; its are `configure_train` (whom of the
cohort it asks, with which parameters and config) and `aggregate_train` (what follows from the replies).
"""

import functools
import inspect
import logging
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Parameter
from typing import Any, ClassVar

import torch
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedjourney import remembered
from fedjourney.errors import ConfigError, FedjourneyError, RunError
from fedjourney.flower_private import MEMORY, ErrorCode, Run, ensure_identity, quiet
from fedjourney.messages import to_arrays, to_tensors
from fedjourney.simulation.randomness import kept_globals, seed_globals
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import extended, group, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work

_log = logging.getLogger(__name__)

OURS = {
    "fraction_train": "the cohort is drawn by [experiment] cohort",
    "min_train_nodes": "the cohort is drawn by [experiment] cohort",
    "min_available_nodes": "the cohort is drawn by [experiment] cohort",
    "fraction_evaluate": "clients evaluate as [experiment] evaluate_every and holdout say",
    "min_evaluate_nodes": "clients evaluate as [experiment] evaluate_every and holdout say",
    "arrayrecord_key": "records have Flower's usual names here",
    "configrecord_key": "records have Flower's usual names here",
}
"""Options of Flower's strategies that are not theirs to decide here, and who decides instead."""
WHOLE = ("min_train_nodes", "min_available_nodes")  # 1, so that a cohort of one is asked too
LOOKS = 8  # a strategy may ask for the nodes so often in one round; one that waits for more asks for ever
PROXIMAL = "proximal-mu"
READ = {"server-round", PROXIMAL}  # what our clients do with a strategy's config: know it already, and obey


class Foreign(Rounds):
    """A Flower strategy inside of ours; `made` is its class."""

    fold = None  # it wants every client's whole parameters
    made: ClassVar[type[Strategy]]

    def __init__(self, setting: Setting, /, **options: Any) -> None:
        super().__init__()
        self.setting = setting
        self._build = functools.partial(self._made, options)
        self._flower = self._build()
        declared = remembered.declared(self.made, MEMORY)
        self.resumable = declared is not None
        self._names: Sequence[str] = declared or ()
        self._first = self._memory()
        self._kept: Tensors = self.state
        self._proximal = self._told = False
        self._asks: dict[int, Message] = {}
        self._shared: Tensors = {}

    def _made(self, options: dict[str, Any]) -> Strategy:
        given = {name: 1 for name in WHOLE if name in _parameters(self.made)}
        given |= {name: value for name, value in options.items() if value is not None}
        with quiet(), kept_globals():
            seed_globals(self.setting.seed, "foreign")
            return self.made(**given)

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`, with the proximal term where the strategy asks for it."""
        assert update is not None
        self._proximal = self._rehearse(task)
        return {"train": _proximal(update) if self._proximal else update}

    def _rehearse(self, task: Task) -> bool:
        """Have a round on one number per parameter with another instance; return whether it wants a proximal term.

        Raises:
            ConfigError: it cannot be run here.
        """
        params = {name: torch.zeros(1, dtype=tensor.dtype) for name, tensor in task.init(0).items()}
        drawn, flower = list(range(self.setting.cohort)), self._build()
        asks = self._configure(flower, 1, params, drawn, ConfigError)
        shared, config = self._content(asks, params, ConfigError)
        numbers = {"num-examples": 1.0, "loss": 1.0}
        replies = [_reply(ask, shared, numbers) for ask in asks.values()]
        if replies:
            self._aggregate(flower, 1, params, replies, ConfigError)
        return PROXIMAL in config

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Ask those of the cohort to whom the strategy writes."""
        self._warn()
        if self.state is not self._kept:  # resumed, or the last round did not count
            self._recall(self.state or self._first)
        self._asks = self._configure(self._flower, round, params, clients, RunError)
        self._shared, config = self._content(self._asks, params, RunError)
        if self._asks and (PROXIMAL in config) != self._proximal:
            raise RunError(f'{self._where} sends "{PROXIMAL}" in some rounds only; here it must in all or none.')
        one = next(iter(params.values()))
        row = {PROXIMAL: one.new_tensor(config[PROXIMAL])} if self._proximal else {}
        asked = sorted(self._asks)
        return Ask(self._shared, asked, [row] * len(asked) if row else None)

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Take what the strategy makes of the replies; nothing of it keeps the parameters."""
        came = {client: place for place, client in enumerate(cohort.clients)}
        replies = []
        for client, ask in self._asks.items():
            if client not in came:
                replies.append(Message(Error(ErrorCode.UNKNOWN, "its reply did not count"), reply_to=ask))
                continue
            place = came[client]
            trained = add_scaled(self._shared, update_of(cohort.rows[place]), 1.0)
            numbers = {name: values[place] for name, values in cohort.metrics.items()}
            replies.append(_reply(ask, trained, numbers))
        params = self._aggregate(self._flower, round, params, replies, RunError)
        self.state = self._kept = self._memory()
        return params

    def _configure(
        self, flower: Strategy, round: int, params: Tensors, clients: Sequence[int], kind: type[FedjourneyError]
    ) -> dict[int, Message]:
        """Return the strategy's message to each client that it asks, by client, ascending."""
        ensure_identity()
        grid, found = _CohortGrid([_node(client) for client in clients]), {}
        with self._theirs("configure_train", round, kind):
            for message in flower.configure_train(round, to_arrays(params), ConfigRecord(), grid):
                found[_client(message.metadata.dst_node_id)] = message
        if not set(found) <= set(clients):
            raise kind(f"{self._where} asks nodes that are not of the cohort; it must take those of the grid it gets.")
        return dict(sorted(found.items()))

    def _content(
        self, asks: dict[int, Message], params: Tensors, kind: type[FedjourneyError]
    ) -> tuple[Tensors, dict[str, Any]]:
        """Return the parameters and the config that all messages have in common."""
        if not asks:
            return params, {}
        contents = [message.content for message in asks.values()]
        if any(content is not contents[0] and content != contents[0] for content in contents[1:]):
            raise kind(f"{self._where} sends clients unlike messages. Here all of a round get the same.")
        arrays, configs = list(contents[0].array_records.values()), list(contents[0].config_records.values())
        config = {key: value for one in configs for key, value in one.items()}
        if unread := sorted(set(config) - READ):
            raise kind(
                f"{self._where} sends clients config that nothing here reads: {', '.join(unread)}. What clients do is "
                f"[update]; of a strategy's config they know {' and '.join(sorted(READ))}."
            )
        if len(arrays) != 1:
            raise kind(f"{self._where} sends {len(arrays)} records of arrays, expected one.")
        return self._alike(arrays[0], params, "sends clients", kind), config

    def _aggregate(
        self, flower: Strategy, round: int, params: Tensors, replies: Iterable[Message], kind: type[FedjourneyError]
    ) -> Tensors:
        with self._theirs("aggregate_train", round, kind):
            arrays, _ = flower.aggregate_train(round, list(replies))
        return params if arrays is None else self._alike(arrays, params, "makes of the replies", kind)

    def _alike(self, arrays: ArrayRecord, params: Tensors, what: str, kind: type[FedjourneyError]) -> Tensors:
        """Return arrays as tensors, if they have the parameters' names and shapes."""
        got = to_tensors(arrays)
        if got.keys() != params.keys() or any(got[name].shape != tensor.shape for name, tensor in params.items()):
            raise kind(f"{self._where} {what} arrays of other names or shapes than the model's parameters.")
        return {name: got[name].to(tensor.dtype) for name, tensor in params.items()}

    @contextmanager
    def _theirs(self, method: str, round: int, kind: type[FedjourneyError]) -> Iterator[None]:
        """Run its code: quietly, on seeded global generators that are put back, and blamed for what it raises."""
        try:
            with quiet(), kept_globals():
                seed_globals(self.setting.seed, "foreign", method, round)
                yield
        except Exception as error:
            raise kind(f"{self._where} raised in {method}, round {round}: {type(error).__name__}: {error}") from error

    @property
    def _where(self) -> str:
        return f'[strategy] "{self.made.__module__}:{self.made.__qualname__}"'

    def _memory(self) -> Tensors:
        try:
            return remembered.packed({name: getattr(self._flower, name) for name in self._names})
        except (AttributeError, TypeError) as error:
            raise RunError(f"{self._where} declares as its memory what cannot be kept ({error}).") from None

    def _recall(self, state: Tensors) -> None:
        self._kept = self.state
        for name, value in remembered.unpacked(state).items():
            setattr(self._flower, name, value)

    def _warn(self) -> None:
        """Say once which of its methods are never called."""
        for method in ("configure_evaluate", "aggregate_evaluate") if not self._told else ():
            if not getattr(self.made, method).__module__.startswith("flwr."):
                _log.warning("%s: its %s is never called; clients evaluate as [experiment] says", self._where, method)
        self._told = True


@functools.cache
def adapted(found: type[Strategy]) -> type[Rounds]:
    """Return a plug-in of ours that runs a Flower strategy.

    Raises:
        ConfigError: it needs what a TOML file cannot give, or a loop of its own.
    """
    place, known = f'[strategy] name: "{found.__module__}:{found.__qualname__}"', _parameters(found)
    options = [p for name, p in known.items() if name not in OURS and _writable(p.annotation)]
    for name, parameter in known.items():
        if parameter.default is Parameter.empty and parameter not in options:
            raise ConfigError(f"{place} needs {name}, which no TOML file can give. Derive a class that gives it.")
    if found.start is not Strategy.start:
        raise ConfigError(f"{place} has a start of its own, but rounds are run as Flower's Strategy.start runs them.")
    if inspect.isabstract(found):
        raise ConfigError(f"{place} is abstract: {', '.join(sorted(found.__abstractmethods__))} are missing.")
    signature = inspect.Signature([Parameter("setting", Parameter.POSITIONAL_ONLY), *options])
    refused = {name: f"{why}. Remove it." for name, why in OURS.items() if name in known}
    told = {"made": found, "__signature__": signature, "refused": refused, "__module__": found.__module__}
    return type(found.__name__, (Foreign,), told)


def _parameters(found: type) -> dict[str, Parameter]:
    """Return what a class is made with, of its bases too as long as it hands on `**kwargs`.

    What a base takes is None by default, which is to say left to the class: it may hand on a value of its own.
    """
    known: dict[str, Parameter] = {}
    inherited = False
    for owner in found.__mro__:
        if owner is object or "__init__" not in vars(owner):
            continue
        parameters = list(inspect.signature(vars(owner)["__init__"], eval_str=True).parameters.values())[1:]
        for one in parameters:
            if one.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                one = one.replace(kind=Parameter.KEYWORD_ONLY)
                known.setdefault(one.name, _optional(one) if inherited else one)
        if all(one.kind is not Parameter.VAR_KEYWORD for one in parameters):
            break
        inherited = True
    return known


def _optional(parameter: Parameter) -> Parameter:
    annotation = Any if parameter.annotation is Parameter.empty else parameter.annotation | None
    return parameter.replace(annotation=annotation, default=None)


def _writable(annotation: Any) -> bool:
    """Return whether a TOML file can give a value of that type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_writable(one) for one in inner if one is not type(None))
    if origin is typing.Annotated:
        return _writable(inner[0])
    return annotation in (Parameter.empty, Any, bool, int, float, str, list, dict) or origin in (
        list,
        dict,
        typing.Literal,
    )


def _proximal(update: LocalUpdate) -> LocalUpdate:
    """Return the update on its loss + mu/2 |w - w_t|², mu as the strategy sends it."""

    def remember(shared: Tensors, row: Tensors, state: Tensors) -> Tensors:
        return under("received", shared) | {"mu": row[PROXIMAL]}

    def correct(grads: Tensors, params: Tensors, own: Tensors) -> Tensors:
        received = group("received", own)
        return {name: g + own["mu"] * (params[name] - received[name]) for name, g in grads.items()}

    return extended(update, remember, correct)


def _reply(ask: Message, params: Tensors, numbers: dict[str, float]) -> Message:
    """Return what a client of Flower's would answer: its whole parameters and its metrics."""
    whole: dict[str, Any] = dict(numbers)
    if numbers["num-examples"].is_integer():
        whole["num-examples"] = int(numbers["num-examples"])
    return Message(RecordDict({"arrays": to_arrays(params), "metrics": MetricRecord(whole)}), reply_to=ask)


def _node(client: int) -> int:
    return client + 1  # no node of Flower's has the id 0


def _client(node: int) -> int:
    return node - 1


class _CohortGrid(Grid):
    """The cohort as a grid: all the nodes there are. Messages go through what `configure_train` returns."""

    def __init__(self, nodes: list[int]) -> None:
        self._nodes, self._looks, self._run = nodes, 0, Run.create_empty(0)

    def get_node_ids(self) -> Iterable[int]:
        """Return the cohort."""
        self._looks += 1
        if self._looks > LOOKS:
            raise RuntimeError(f"it waits for more nodes than the {len(self._nodes)} of [experiment] cohort")
        return list(self._nodes)

    def set_run(self, run: Run) -> None:
        """Take over Flower's description of a run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build a message."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refuse."""
        raise RuntimeError("messages that a strategy sends by itself are not carried; return them")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refuse."""
        raise RuntimeError("messages that a strategy sends by itself are not carried; return them")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Refuse."""
        raise RuntimeError("messages that a strategy sends by itself are not carried; return them")
