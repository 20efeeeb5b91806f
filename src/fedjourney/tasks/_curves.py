"""A function that is learned from a few points, as a picture."""

import numpy as np

SIDE = 161  # pixels of a panel
GREY, BLUE, ORANGE, BLACK = (150, 150, 150), (42, 120, 214), (235, 104, 52), (20, 20, 20)


def panel(
    support: tuple[np.ndarray, np.ndarray],
    query: tuple[np.ndarray, np.ndarray],
    grid: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> np.ndarray:
    """Return a picture [SIDE, SIDE, 3] uint8: what a model says on a grid [n] before and after, and the points (x, y).

    Its height reaches over the points; a curve beyond is cut off.
    """
    picture = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    every = np.concatenate([support[1], query[1]])
    middle, reach = (every.max() + every.min()) / 2, max(float(np.ptp(every)), 1e-6) * 1.3

    def draw(x: np.ndarray, y: np.ndarray, colour: tuple[int, int, int], wide: int) -> None:
        across = np.rint((x - grid[0]) / (grid[-1] - grid[0]) * (SIDE - 1)).astype(int)
        down = np.rint((0.5 - (y - middle) / reach) * (SIDE - 1))
        inside = (down >= 0) & (down < SIDE)
        for right in range(-wide, wide + 1):
            for low in range(-wide, wide + 1):
                rows = np.clip(down[inside].astype(int) + low, 0, SIDE - 1)
                picture[rows, np.clip(across[inside] + right, 0, SIDE - 1)] = colour

    draw(grid, before, GREY, 0)
    draw(grid, after, ORANGE, 0)
    draw(*query, BLUE, 1)
    draw(*support, BLACK, 2)
    return np.pad(picture, ((1, 1), (1, 1), (0, 0)), constant_values=200)
