"""Run folders: what a run writes, how a round is committed, what a resume reads."""

import errno
import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedjourney.errors import RunError
from fedjourney.flower import RoundRecord
from fedjourney.metrics import lower_is_better
from fedjourney.storage import settle, write_atomically
from fedjourney.tensors import Tensors, digest_update

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 1.0
"""A checkpoint is due this long after the last: rounds since are computed again on resume, to the same bits."""
CHECKPOINT_SHARE = 0.02
"""Of a run's time that checkpoints may take; a model that takes long to write is written less often."""


@dataclass
class Result:
    """A finished run.

    Attributes:
        folder: where everything was written.
        digest: sha256 over parameters, cohorts, failures and metrics.
        rounds: one object a round, as in `rounds.jsonl`.
        parameters: the delivered model.
        summary: what `--json` prints.
    """

    folder: Path
    digest: str
    rounds: list[dict[str, Any]]
    parameters: Tensors
    summary: dict[str, Any]


@dataclass
class Checkpoint:
    """Everything a run needs to go on after `round`."""

    round: int
    params: Tensors
    strategy: dict[str, Any]  # tensors, and plain values (numbers, texts, lists)
    accepted: dict[int, int] = field(default_factory=dict)
    chain: str = ""  # sha256 over the records of all rounds so far
    rounds_bytes: int = 0
    clients_bytes: int = 0
    seconds: float = 0.0
    bits: dict[str, Any] = field(default_factory=dict)  # the tables that decide bits
    fingerprint: str = ""  # the data set's

    def encode(self) -> bytes:
        """Return the checkpoint as one safetensors file: no pickle, order of names kept in its header."""
        from safetensors.torch import save

        plain = {key: value for key, value in self.__dict__.items() if key not in ("params", "strategy")}
        plain |= {"params": list(self.params), "strategy": self._plain()}
        plain["sum"] = self._sum()
        tensors = {f"params/{n}": t for n, t in self.params.items()}
        tensors |= {f"strategy/{n}": t for n, t in self.strategy.items() if isinstance(t, torch.Tensor)}
        return save(apart(tensors), metadata={"state": json.dumps(plain)})

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                plain = json.loads(file.metadata()["state"])
                plain["params"] = {n: file.get_tensor(f"params/{n}").clone() for n in plain["params"]}
                held = {n: f"strategy/{n}" for n, value in plain["strategy"] if value is None}
                tensors = {n: file.get_tensor(key).clone() for n, key in held.items()}
                plain["strategy"] = {n: tensors[n] if value is None else value for n, value in plain["strategy"]}
            plain["accepted"] = {int(client): round_ for client, round_ in plain["accepted"].items()}
            kept = plain.pop("sum")
            found = cls(**plain)
            if found._sum() != kept:
                raise ValueError("its sum does not fit its contents")
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise RunError(f"{path}: expected a checkpoint of ours, got another file ({error}). Restore it.") from None
        return found

    def _sum(self) -> str:
        """Return sha256 over everything that a resume goes on with."""
        plain = [
            self.round,
            sorted(self.accepted.items()),
            self.chain,
            self.rounds_bytes,
            self.clients_bytes,
            self.bits,
            self._plain(),
        ]
        state = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        digest_update(state, self.params)
        digest_update(state, {n: t for n, t in self.strategy.items() if isinstance(t, torch.Tensor)})
        return state.hexdigest()

    def _plain(self) -> list[list[Any]]:
        """Return (name, value) of the strategy's state in order, None in the place of a tensor."""
        return [[n, None if isinstance(t, torch.Tensor) else t] for n, t in self.strategy.items()]


def apart(tensors: Tensors) -> Tensors:
    """Return the tensors, contiguous, those that share memory with an earlier one copied, as safetensors wants them."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.contiguous() if place not in seen else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(place)
    return found


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error that says so.

    Raises:
        RunError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror}). Nothing before the last checkpoint is lost: "
            f"make room or make it writable, then `fedjourney resume {folder}`."
        ) from error


class Recorder:
    """Commits rounds to a run folder; the only writer of records and checkpoints."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, watch: Callable[[dict[str, Any]], None]) -> None:
        self.folder, self.last, self._watch = folder, checkpoint, watch
        self.checkpointed = dict(checkpoint.accepted)  # whose kept state a resume would ask for, of which round
        self._saved, self._pause = time.monotonic(), CHECKPOINT_SECONDS
        self._began = time.monotonic()
        with writing(folder):
            self._rounds = self._cut(folder / "rounds.jsonl", checkpoint.rounds_bytes)
            self._clients = self._cut(folder / "clients.jsonl", checkpoint.clients_bytes)

    @staticmethod
    def _cut(path: Path, size: int) -> Any:
        """Open for appending, after cutting off what came later than the checkpoint."""
        held = path.stat().st_size if path.exists() else 0
        if held < size:
            raise RunError(f"{path}: expected at least {size} bytes, got {held}: records are missing. Restore it.")
        file = path.open("ab", buffering=0)  # nothing is left to flush when the disk is full
        file.truncate(size)
        file.seek(size)
        return file

    def commit(
        self,
        record: RoundRecord,
        params: Tensors,
        strategy: dict[str, Any],
        accepted: dict[int, int],
        central: dict[str, dict[str, float]],
        due: bool,
    ) -> None:
        """Write one round, and a checkpoint when one is due."""
        now = time.monotonic()
        row = valid_json(round_row(record, central, now - self._began))
        lines = "".join(_line(one) for one in client_rows(record))
        with writing(self.folder):
            for file, text in ((self._rounds, _line(row)), (self._clients, lines)):
                if file.write(text.encode()) != len(text.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.last = Checkpoint(
            record.round,
            params,
            dict(strategy),
            dict(accepted),
            chained(self.last.chain, record, central),
            self._rounds.tell(),
            self._clients.tell(),
            self.last.seconds + (now - self._began),
            self.last.bits,
            self.last.fingerprint,
        )
        self._began = now
        # clients keep all states since the last checkpoint: that must not become many
        if due or now - self._saved >= (CHECKPOINT_SECONDS if accepted else self._pause):
            self.save()
        self._watch(row)

    def save(self) -> None:
        """Write the last committed round as checkpoint; records, and what clients kept, reach the disk first."""
        began = time.monotonic()
        with writing(self.folder):
            if not (self.last.accepted and settle()):
                for file in (self._rounds, self._clients):
                    os.fsync(file.fileno())
            write_atomically(self.folder / CHECKPOINT, self.last.encode())
        self._saved, self.checkpointed = time.monotonic(), self.last.accepted
        self._pause = max(CHECKPOINT_SECONDS, (self._saved - began) / CHECKPOINT_SHARE)

    def close(self) -> None:
        """Close the record files."""
        self._rounds.close()
        self._clients.close()


def round_row(record: RoundRecord, central: dict[str, dict[str, float]], seconds: float) -> dict[str, Any]:
    """Return a round as it stands in `rounds.jsonl`."""
    row: dict[str, Any] = {
        "round": record.round,
        "test": central.get("test", {}),
        "validation": central.get("validation", {}),
        "train": _mean(record.metrics),
    }
    if record.step:
        row["step"] = record.step
    if record.further:
        row["further"] = {work: _mean(metrics) for work, metrics in record.further.items()}
    for group, metrics in (("evaluation", record.evaluation), ("unseen", record.unseen)):
        if metrics:
            row[group] = {
                name: spread(values, lower_is_better(name))
                for name, values in metrics.items()
                if name != "num-examples"
            }
    return row | {
        "clients": {
            "asked": len(record.asked),
            "answered": len(record.accepted),
            "failed": [asdict(failure) for failure in record.failures],
            "counted": record.counted,
            **({"reason": record.reason} if record.reason else {}),
        },
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "gradients": record.gradients,
        "forwards": record.forwards,
        "seconds": round(seconds, 6),
    }


def _mean(metrics: dict[str, list[float]]) -> dict[str, float]:
    """Return each metric's mean over the clients that sent it, weighted by their numbers of examples."""
    found, weights = {}, metrics.get("num-examples", [])
    for name, values in metrics.items():
        pairs = [(w, v) for w, v in zip(weights, values, strict=True) if v == v]
        if name != "num-examples" and pairs:
            found[name] = sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)
    return found


_text = json.JSONEncoder(allow_nan=False).encode


def _line(row: dict[str, Any]) -> str:
    """Return a row as a line of JSON; almost all of them have finite numbers alone, and need no second look."""
    try:
        return _text(row) + "\n"
    except ValueError:
        return json.dumps(valid_json(row)) + "\n"


def valid_json(value: Any) -> Any:
    """Return a value with null for every number that JSON does not know (NaN, infinity)."""
    if isinstance(value, dict):
        return {key: valid_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [valid_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def spread(values: list[float], lower: bool) -> dict[str, float]:
    """Return mean, standard deviation, and the mean of the worst tenth (at least one value); is lower better?"""
    mean = sum(values) / len(values)
    ordered = sorted(values, key=lambda value: (not math.isnan(value), -value if lower else value))  # NaN is the worst
    worst = ordered[: max(1, len(values) // 10)]
    variance = sum((value - mean) * (value - mean) for value in values) / len(values)  # ** would raise where it is inf
    return {"mean": mean, "spread": variance**0.5, "worst_tenth": sum(worst) / len(worst)}


def client_rows(record: RoundRecord) -> Iterator[dict[str, Any]]:
    """Yield a row per client that was asked."""
    failed = {failure.client: failure for failure in record.failures if failure.stage != "evaluate"}
    places = {client: place for place, client in enumerate(record.accepted)}
    for client in record.asked:
        row: dict[str, Any] = {"round": record.round, "client": client}
        if client in places:
            numbers = {name: values[places[client]] for name, values in record.metrics.items()}
            yield row | {"status": "answered", **numbers}
        else:
            yield row | {"status": failed[client].kind if client in failed else "lost"}


def chained(chain: str, record: RoundRecord, central: dict[str, dict[str, float]]) -> str:
    """Return sha256 over the chain so far and this round: asked, accepted, failed, every metric as `<d`."""
    state = hashlib.sha256(chain.encode())
    failed = sorted((failure.client, failure.kind) for failure in record.failures)
    state.update(json.dumps([record.round, record.asked, record.accepted, failed]).encode())
    groups: dict[str, dict[str, list[float]]] = {"train": record.metrics, "evaluation": record.evaluation}
    if record.unseen:
        groups["unseen"] = record.unseen
    groups |= {f"further/{work}": metrics for work, metrics in record.further.items()}
    groups |= {split: {name: [value] for name, value in values.items()} for split, values in central.items()}
    for group in sorted(groups):
        for name in sorted(groups[group]):
            state.update(f"{group}/{name}".encode())
            for value in groups[group][name]:
                state.update(struct.pack("<d", value if value == value else float("nan")))
    return state.hexdigest()


def digest(params: Tensors, chain: str) -> str:
    """Return a run's digest: its final parameters and the chain of its rounds."""
    state = hashlib.sha256()
    digest_update(state, params)
    state.update(chain.encode())
    return state.hexdigest()


def write_parquet(folder: Path) -> None:
    """Turn `clients.jsonl` into `clients.parquet`, once the run has ended."""
    import pyarrow
    from pyarrow import parquet

    source = folder / "clients.jsonl"
    try:
        rows = [json.loads(line) for line in source.read_text().splitlines()]
    except ValueError as error:
        raise RunError(f"{source}: expected an object a line ({error}). Restore it.") from None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table = pyarrow.table({key: [row.get(key) for row in rows] for key in keys})
    temporary = folder / ".clients.parquet.tmp"
    try:
        parquet.write_table(table, temporary)
        os.replace(temporary, folder / "clients.parquet")
    finally:
        temporary.unlink(missing_ok=True)
