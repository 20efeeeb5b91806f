"""What a finished run has to show beside its numbers: texts and pictures that its task makes of the delivered model."""

import base64
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from fedjourney.data import Examples
from fedjourney.guard import FAULTS, described
from fedjourney.storage import write_atomically
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors

FILE = "exhibit.json"
MOST_PIXELS, MOST_LETTERS = 4_000_000, 100_000

Shown: TypeAlias = dict[str, str | np.ndarray]


@runtime_checkable
class Exhibits(Protocol):
    """A task that has something to show."""

    def exhibit(self, params: Tensors, examples: Examples) -> Shown:
        """Return texts, and pictures [H, W] or [H, W, 3] of uint8 or of floats in 0 … 1, by their captions."""


def write(folder: Path, task: Task, params: Tensors, examples: Examples) -> None:
    """Write `exhibit.json` into a run folder, if the task has anything to show and examples to show it on.

    Each entry is {"name", "text"}, {"name", "picture", "width", "height"} with a PNG as a data URL, or
    {"name", "problem"}: what cannot be made or shown is said in words, and costs nothing else.

    Raises:
        OSError: the folder cannot be written.
    """
    if not isinstance(task, Exhibits) or not len(examples):
        return
    try:
        found: Any = task.exhibit({name: tensor.clone() for name, tensor in params.items()}, examples)
        if not isinstance(found, Mapping):
            raise TypeError(f"expected texts and pictures by name, got {type(found).__name__}")
        entries = [{"name": str(name), **_entry(value)} for name, value in found.items()]
    except FAULTS as error:
        entries = [{"name": "exhibit", "problem": described(error)}]
    write_atomically(folder / FILE, json.dumps(entries).encode())


def _entry(value: Any) -> dict[str, Any]:
    """Return one text or picture as it is written."""
    try:
        if isinstance(value, str):
            return {"text": value if len(value) <= MOST_LETTERS else value[:MOST_LETTERS] + "…"}
        if isinstance(value, np.ndarray):
            return {"picture": _data_url(value), "width": value.shape[1], "height": value.shape[0]}
        raise TypeError(f"expected a text or an array, got {type(value).__name__}")
    except FAULTS as error:
        return {"problem": described(error)}


def _data_url(pixels: np.ndarray) -> str:
    """Return a picture as a PNG in a data URL.

    Raises:
        ValueError: it has another form.
    """
    from PIL import Image

    whole = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not whole or not 0 < math.prod(pixels.shape[:2]) <= MOST_PIXELS:
        raise ValueError(
            f"expected a picture [H, W] or [H, W, 3] of at most {MOST_PIXELS} pixels, got {list(pixels.shape)}"
        )
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind != "f" or not np.isfinite(pixels).all():
            raise ValueError(f"expected a picture of uint8 or of finite floats in 0 … 1, got {pixels.dtype}")
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
