"""Strategies whose server step is a function of a few numbers, so that clients can make it themselves.

With `downlink = "model"` clients get the parameters each round. With `downlink = "fitness"` no model travels after a
client's first round: it keeps the model as its state, and its row brings it, round by round, what it missed.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import torch

from fedjourney.memo import Memo
from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, digest_update
from fedjourney.updates import Client, LocalUpdate, Reply, Work
from fedjourney.wire import encoded_size

Downlink: TypeAlias = Literal["model", "fitness"]


def group(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    """Return the tensors with `prefix` before their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def numbered(tensors: Tensors) -> Tensors:
    """Return the tensors under names that sort in their order: what clients keep comes back in order of names."""
    return {f"kept/{place:05d}/{name}": tensor for place, (name, tensor) in enumerate(tensors.items())}


def kept(state: Tensors) -> Tensors:
    """Return what `numbered` named, in its order."""
    found = group(state, "kept/")
    return {name.partition("/")[2]: found[name] for name in sorted(found)}


def noted(answers: Tensors, extra: Tensors) -> dict[str, float]:
    """Return what rates are comparable by: the spread of mean answers, and the mean noise level where levels adapt."""
    many = {name: tensor for name, tensor in answers.items() if "/" not in name and tensor.is_floating_point()}
    found = {f"{name}_spread": float(tensor.double().std(correction=0)) for name, tensor in many.items()}
    return found | ({"sigma": float(extra["sigma"].double().mean())} if "sigma" in extra else {})


class Replayed(Rounds):
    """Rounds whose step is a pure function of (round, parameters, extra, news).

    *extra* is whatever else the search carries from round to round (an optimiser's moments, noise levels, a
    population); *news* is what the cohort's answers come to, a few numbers. The server and every client that replays
    call the same `step`, so their models are the same to the bit.

    A client that takes part for the first time, or whose gap is long, is sent the cheapest of: what it missed; the
    first model and all rounds since; the present model with its extra. Each is charged as what it weighs.
    """

    evolution = True

    update: LocalUpdate | None = None

    def __init__(self, setting: Setting, downlink: Downlink) -> None:
        super().__init__()
        self.setting, self.downlink = setting, downlink
        self._steps: Memo[tuple[Tensors, Tensors]] = Memo(64 * 2**20, _weight)

    @abstractmethod
    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Return a client's reply; `client.shared` is the model, `client.row` what `today` says."""

    @abstractmethod
    def news(self, round: int, cohort: Cohort) -> Tensors:
        """Return what the answers come to."""

    @abstractmethod
    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Return the next parameters and extra."""

    def begin(self, params: Tensors) -> Tensors:
        """Return the extra that the first model begins with."""
        return {}

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Return the parts of (parameters, extra) that scoring needs, where the model is sent."""
        return params, {}

    def today(self, round: int) -> Tensors:
        """Return what everyone is told of this round besides."""
        return {}

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients catch up, then answer."""
        self.update = update
        return {"train": self._half}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Send the model, or to each client what it missed."""
        extra, today = self._extra(params), prefixed("today/", self.today(round))
        if self.downlink == "model":
            model, also = self.sent(params, extra)
            return Ask(model if not (also or today) else {**model, **prefixed("extra/", also), **today}, clients)
        if "known" not in self.state:
            self.state["known"] = torch.full((self.setting.clients,), -1)  # has all steps before this round
            self.state["since"] = torch.ones(1, dtype=torch.int64)  # the first round whose step is kept
            self.state |= prefixed("start/", params)
        return Ask(today, clients, [self._row(client, params, extra) for client in clients])

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Make the step, and keep what it was made from."""
        news, extra = self.news(round, cohort), self._extra(params)
        if self.downlink == "model":
            stepped, extra = self.step(round, params, extra, news)
        else:
            before = _read(self.state["origin"]) if "origin" in self.state else begun_with(params, extra)
            stepped, extra, origin = self._stepped(round, params, extra, news, before)
            self.state["origin"] = _written(origin)
        self.notes = noted(cohort.tensors or {}, extra)
        rest = {name: tensor for name, tensor in self.state.items() if not name.startswith("extra/")}
        self.state = rest | prefixed("extra/", extra)
        if self.downlink == "fitness":
            known = self.state["known"].clone()
            known[torch.tensor(cohort.clients, dtype=torch.int64)] = round
            self.state |= prefixed(f"news/{round}/", news) | {"known": known}
            self._forget(stepped, extra)
        return stepped

    def _extra(self, params: Tensors) -> Tensors:
        stepped = any(name.startswith("extra/") for name in self.state)
        return group(self.state, "extra/") if stepped else self.begin(params)

    def _rounds(self, since: int = 0) -> list[int]:
        """Return the rounds from `since` on whose steps are kept."""
        return sorted({r for r in (int(n.split("/")[1]) for n in self.state if n.startswith("news/")) if r >= since})

    def _history(self, since: int) -> Tensors:
        """Return the steps from `since` on: `rounds` [R] and each of the news stacked [R, …]."""
        rounds = self._rounds(since)
        if not rounds:
            return {}
        names = group(self.state, f"news/{rounds[0]}/")
        stacked = {f"news/{name}": torch.stack([self.state[f"news/{r}/{name}"] for r in rounds]) for name in names}
        return {"rounds": torch.tensor(rounds, dtype=torch.int32), **stacked}

    def _row(self, client: int, params: Tensors, extra: Tensors) -> Tensors:
        """Return the cheapest of what brings a client to the present model."""
        known, since = int(self.state["known"][client]), int(self.state["since"])
        if known >= since:
            return min(self._history(known), _snapshot(params, extra), key=encoded_size)
        if since > 1:
            return _snapshot(params, extra)
        first = prefixed("start/", group(self.state, "start/")) | self._history(1)
        return min(first, _snapshot(params, extra), key=encoded_size)

    def _forget(self, params: Tensors, extra: Tensors) -> None:
        """Drop the oldest steps for as long as the model is cheaper than all of them."""
        whole, since = encoded_size(_snapshot(params, extra)), int(self.state["since"])
        while (rounds := self._rounds(since)) and encoded_size(self._history(since)) > whole:
            since = rounds[0] + 1
            gone = f"news/{rounds[0]}/"
            self.state = {name: tensor for name, tensor in self.state.items() if not name.startswith(gone)}
        self.state["since"] = torch.tensor([since])
        if since > 1:
            self.state = {name: tensor for name, tensor in self.state.items() if not name.startswith("start/")}

    def _half(self, client: Client) -> Reply:
        today = group(client.shared, "today/")
        if self.downlink == "model":
            model = {name: t for name, t in client.shared.items() if not name.startswith(("extra/", "today/"))}
            return self.answer(replace(client, shared=model, row=today), group(client.shared, "extra/"))
        params, extra, origin = self._catch_up(client)
        reply = self.answer(replace(client, shared=params, row=today), extra)
        named = {"origin": _written(origin)}
        return Reply(reply.tensors, reply.metrics, reply.state | numbered(_snapshot(params, extra) | named))

    def _catch_up(self, client: Client) -> tuple[Tensors, Tensors, bytes]:
        """Return (parameters, extra, origin) before this round's step: what is kept or sent, the missed steps made."""
        row, before = client.row, kept(client.state)
        if start := group(row, "start/"):
            params, extra = start, self.begin(start)
        else:
            base = row if group(row, "params/") else before
            params, extra = group(base, "params/"), group(base, "extra/")
        if "origin" in before and not (start or group(row, "params/")):
            origin = _read(before["origin"])
        else:
            origin = begun_with(params, extra)
        for place, round in enumerate(row["rounds"].tolist() if "rounds" in row else ()):
            news = {name: stacked[place] for name, stacked in group(row, "news/").items()}
            params, extra, origin = self._stepped(round, params, extra, news, origin)
        return params, extra, origin

    def _stepped(
        self, round: int, params: Tensors, extra: Tensors, news: Tensors, origin: bytes
    ) -> tuple[Tensors, Tensors, bytes]:
        """Return the step, made once for the server and all clients that one process has, and what it came from.

        An *origin* says what a model and its extra are by how they came about: a digest of those that a client was sent
        first, then of the origin before, the round and its news. Digests of the tensors themselves took a population
        longer than the step.
        """
        after = _digest(origin + round.to_bytes(8, "little"), news)
        here = str(next(iter(params.values())).device)
        made = self._steps.get((after, here), lambda: self.step(round, params, extra, news))
        stepped, more = ({name: tensor.clone() for name, tensor in one.items()} for one in made)
        return stepped, more, after


def begun_with(params: Tensors, extra: Tensors) -> bytes:
    """Return the origin of a model and its extra that a client was sent."""
    return _digest(b"", _snapshot(params, extra))


def _written(origin: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(origin), dtype=torch.uint8)


def _read(origin: torch.Tensor) -> bytes:
    return origin.cpu().numpy().tobytes()


def _digest(before: bytes, tensors: Tensors) -> bytes:
    state = hashlib.sha256(before + str(list(tensors)).encode())
    digest_update(state, tensors)
    return state.digest()


def _weight(made: tuple[Tensors, Tensors]) -> int:
    return sum(tensor.nbytes for one in made for tensor in one.values())


def _snapshot(params: Tensors, extra: Tensors) -> Tensors:
    return prefixed("params/", params) | prefixed("extra/", extra)
