"""Letters of no alphabet, drawn by people who do not exist: images of many classes without any download."""

import numpy as np

from fedjourney.seeds import seed_for, uniforms

CLASSES, DRAWERS, SIDE = 200, 12, 14
STROKES, ALONG = 3, 12  # of a letter, places along a stroke
WOBBLE, SLANT, SHIFT, WIDTH = 0.1, 0.35, 1.5, 0.7  # of points (of 1), of drawers, of drawings and the pen (pixels)


def glyphs(seed: int, drawings: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (images with ink = 1 [n, 1, 14, 14], classes [n], drawers [n]).

    A class is three strokes, quadratic Bézier curves whose control points are uniform in a square. Every drawer has a
    slant, a stretch and a pen of their own, and draws each class `drawings` times; each time every
    point wobbles, and the whole lies up to 1.5 pixels off.

    Args:
        seed: of classes, drawers and wobbles.
        drawings: of each class by each drawer.
    """
    letters = uniforms(seed_for(seed, "letters"), CLASSES * STROKES * 6).reshape(CLASSES, 1, 1, STROKES, 3, 2)
    hands = uniforms(seed_for(seed, "drawers"), DRAWERS * 3).reshape(3, 1, DRAWERS, 1, 1, 1)
    shape = (CLASSES, DRAWERS, drawings, STROKES, 3, 2)
    wobble = uniforms(seed_for(seed, "wobble"), int(np.prod(shape))).reshape(shape)
    points = letters - 0.5 + WOBBLE * 2 * (wobble - 0.5)
    across = points[..., 0] * (0.8 + 0.4 * hands[1]) + SLANT * 2 * (hands[0] - 0.5) * points[..., 1]
    points = np.stack([across, points[..., 1]], -1)
    t = np.linspace(0, 1, ALONG)
    curve = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], -1) @ points  # [classes, drawers, drawings, strokes, t, 2]
    places = (curve.reshape(CLASSES * DRAWERS * drawings, -1, 2) * 0.7 + 0.5) * (SIDE - 1)
    places += SHIFT * (2 * uniforms(seed_for(seed, "shifts"), 2 * len(places)).reshape(-1, 1, 2) - 1)
    pens = np.broadcast_to(WIDTH * (0.8 + 0.5 * hands[2, :, :, :, 0, 0]), (CLASSES, DRAWERS, drawings)).reshape(-1)
    grid = np.arange(SIDE)
    images = np.empty((len(places), 1, SIDE, SIDE), dtype=np.float32)
    for row, (some, pen) in enumerate(zip(places, pens, strict=True)):
        near = (grid[:, None, None] - some[:, 1]) ** 2 + (grid[None, :, None] - some[:, 0]) ** 2
        images[row, 0] = (
            np.rint(np.exp(-near.min(-1) / (2 * pen**2)) * 255) / 255
        )  # as 8 bits: no last bit of exp counts
    classes, drawers, _ = np.indices((CLASSES, DRAWERS, drawings)).reshape(3, -1)
    return images, classes.astype(np.int64), drawers.astype(np.int64)
