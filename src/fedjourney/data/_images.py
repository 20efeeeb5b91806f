"""Images as arrays: grey or three colours, eight bits a pixel."""

import io
from typing import Any

import numpy as np

from fedjourney.errors import DataError


def pixels(column: Any, mean: float, deviation: float, where: str, resize: int = 0) -> np.ndarray:
    """Return float32 [n, channels, height, width] in 0…1, then normalised.

    A palette is looked up: three channels, or one where the palettes of all images hold grey alone. An alpha channel
    that hides nothing is dropped. What is neither grey nor red, green and blue by then is refused.

    Raises:
        DataError: with the row of the first image that cannot be decoded, or differs from those before it.
    """
    rows: np.ndarray | None = None
    widened = True  # whether all images so far are grey by their palettes, and may become three channels
    for number, cell in enumerate(column.to_pylist()):
        place = f'set "{where}" row {number}'
        found, palette = _decoded(cell, place, resize)
        if rows is None:
            rows = np.empty((len(column), *found.shape), dtype=np.uint8)
        if palette and widened and found.ndim == 3 and rows.ndim == 3:
            rows = np.repeat(rows[..., None], 3, axis=3)
        if palette and found.ndim == 2 and rows.ndim == 4:
            found = np.repeat(found[..., None], 3, axis=2)
        widened &= palette
        if found.shape != rows.shape[1:]:
            raise DataError(
                f"{place}: expected an image of shape {list(rows.shape[1:])}, got {list(found.shape)}. "
                "All images must have one size and as many channels."
            )
        rows[number] = found
    if rows is None:
        raise DataError(f'set "{where}": expected images, got none.')
    rows = rows[:, None] if rows.ndim == 3 else rows.transpose(0, 3, 1, 2)
    return (rows.astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)


def _decoded(cell: Any, place: str, resize: int) -> tuple[np.ndarray, bool]:
    """Return uint8 [height, width] or [height, width, 3], and whether it came from a palette."""
    from PIL import Image

    content = cell if isinstance(cell, bytes) else cell.get("bytes") if isinstance(cell, dict) else None
    if content is None:
        raise DataError(f"{place}: expected an image's bytes, got none. Remove such rows, or store the images within.")
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        mode = image.mode
        image.load()
        if mode in ("RGBA", "LA") and image.getchannel("A").getextrema() == (255, 255):
            image = image.convert(mode[:-1])
        if mode == "P" and "transparency" not in image.info:
            values = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            image = image.convert("L" if (values == values[:, :1]).all() else "RGB")
        if resize and image.mode in ("L", "RGB"):
            image = image.resize((resize, resize), Image.Resampling.BOX)
        found = np.asarray(image)
    except Exception as error:  # a damaged image can raise whatever its decoder meets
        raise DataError(f"{place}: expected an image, cannot be decoded ({error}).") from None
    if found.dtype != np.uint8:
        raise DataError(f"{place}: expected an image of 8 bits a pixel, got {found.dtype}. Convert it.")
    if image.mode not in ("L", "RGB"):
        got = "a palette with transparency" if mode == "P" else f'mode "{mode}"'
        raise DataError(
            f"{place}: expected an image in grey, in red, green and blue, or opaque, got {got}. Convert it."
        )
    return found, mode == "P"
