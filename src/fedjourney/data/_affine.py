"""Images turned, stretched and shifted, by the same arithmetic on every machine."""

import numpy as np

LEVELS = 255  # results are rounded to 8 bits a pixel, so that a sine's last bit changes no fingerprint
CHUNK = 4096


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Return matrices [n, 2, 2] that turn images counter-clockwise, as a reader sees them."""
    turn = np.deg2rad(degrees)
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)


def warped(images: np.ndarray, sources: np.ndarray, shifts: np.ndarray | None = None) -> np.ndarray:
    """Return float32 images in 0 … 1 whose pixel at p (x right, y down, from the centre) is the source's at A p + s.

    Between four pixels it is their bilinear mean; outside of the source it is 0.

    Args:
        images: in 0 … 1, [n, channels, height, width].
        sources: A, [n, 2, 2].
        shifts: s in pixels, [n, 2].
    """
    out = np.empty(images.shape, dtype=np.float32)
    for start in range(0, len(images), CHUNK):
        rows = slice(start, start + CHUNK)
        out[rows] = _warped(images[rows], sources[rows], None if shifts is None else shifts[rows])
    return out


def _warped(images: np.ndarray, sources: np.ndarray, shifts: np.ndarray | None) -> np.ndarray:
    count, channels, height, width = images.shape
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    at = np.einsum("nij,jp->nip", sources, np.stack([x.ravel(), y.ravel()]))  # [n, 2, pixels]
    if shifts is not None:
        at = at + shifts[:, :, None]
    at = np.round(at + np.array([(width - 1) / 2, (height - 1) / 2])[:, None], 9)
    low = np.floor(at).astype(np.int64)
    part = at - low
    total = np.zeros((count, channels, height * width))
    which = np.arange(count)[:, None]
    flat = images.reshape(count, channels, -1).transpose(0, 2, 1).astype(np.float64)  # [n, pixels, channels]
    for right in (0, 1):
        for down in (0, 1):
            column, row = low[:, 0] + right, low[:, 1] + down
            weight = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            place = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
            total += (flat[which, place] * (weight * inside)[:, :, None]).transpose(0, 2, 1)
    rounded = np.rint(np.clip(total, 0, 1) * LEVELS) / LEVELS
    return rounded.reshape(images.shape).astype(np.float32)


def inscribed(images: np.ndarray) -> np.ndarray:
    """Return images [n, channels, height, width] with 0 outside of the inscribed circle.

    What is inside stays inside however it is turned, so that nothing cut off by the frame gives the angle away.
    """
    height, width = images.shape[2:]
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    return images * (np.hypot(x, y) <= (min(height, width) - 1) / 2).astype(images.dtype)
