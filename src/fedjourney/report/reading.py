"""What a run folder holds, read with patience: only two of its files must be there."""

import json
import tomllib
from pathlib import Path
from typing import Any

from fedjourney.errors import RunError
from fedjourney.report.record import Run


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        RunError: there is no folder, or it lacks a readable `experiment.toml` or `rounds.jsonl`.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder. Expected the folder of a run. Name the folder a run wrote.")
    toml, rows = _text(folder, "experiment.toml"), _text(folder, "rounds.jsonl")
    try:
        experiment = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise RunError(
            f"{folder / 'experiment.toml'}: not valid TOML ({error}). "
            "Expected the resolved experiment as the run wrote it. "
            "Restore the file, or run the experiment again."
        ) from None
    notes: list[str] = []
    rounds = _rows(rows, "rounds.jsonl", notes)
    info, partition = _object(folder / "run.json", notes), _object(folder / "partition.json", notes)
    clients, shown = _client_rows(folder, notes), _exhibit(folder / "exhibit.json", notes)
    return Run(folder, toml, experiment, rounds, info, partition, clients, shown, tuple(notes))


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"there is no {name}" if isinstance(error, FileNotFoundError) else f"{name} is unreadable ({error})"
        raise RunError(
            f"{folder}: {why}. Expected a run folder with experiment.toml and rounds.jsonl. "
            "Name the folder of a run, or run the experiment again."
        ) from None


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        notes.append(f"{path.name} is missing.")
        return {}
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error}).")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{path.name} does not hold an object.")
        return {}
    return value


def _exhibit(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Return what there is to show; most tasks have nothing, and a run that goes on has nothing yet."""
    if not path.is_file():
        return []
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error}).")
        return []
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _rows(text: str, name: str, notes: list[str]) -> list[dict[str, Any]]:
    rows, broken = [], 0
    for line in text.splitlines():
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError:
            row = None
        if not isinstance(row, dict):
            broken += 1
        elif row:
            rows.append(row)
    if broken:
        notes.append(f"{name} has {broken} line{'s' * (broken > 1)} that cannot be read; left out.")
    return rows


def _client_rows(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    lines, columns = folder / "clients.jsonl", folder / "clients.parquet"
    try:
        if columns.is_file():
            import pyarrow.parquet

            rows: list[dict[str, Any]] = pyarrow.parquet.read_table(columns).to_pylist()
            return rows
        if lines.is_file():
            return _rows(lines.read_text(encoding="utf-8"), lines.name, notes)
    except (ImportError, OSError, ValueError) as error:
        notes.append(f"{columns.name if columns.is_file() else lines.name} cannot be read ({error}).")
        return []
    notes.append("There is no clients.jsonl or clients.parquet.")
    return []
