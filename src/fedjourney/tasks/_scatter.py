"""Predictions over targets, as a picture."""

import numpy as np

SIDE = 161  # pixels


def scattered(target: np.ndarray, predicted: np.ndarray) -> dict[str, str | np.ndarray]:
    """Return a picture [SIDE, SIDE, 3] of predictions [n] over targets [n]; its caption tells the targets' range."""
    points = np.stack([target, predicted])[:, ~np.isnan(predicted)]
    if points.shape[1] == 0:
        return {}
    low, high = float(target.min()), float(target.max())
    reach = (high - low) * 1.1 or 1.0

    def placed(values: np.ndarray) -> np.ndarray:
        across = np.clip((values - (low + high) / 2) / reach, -0.5, 0.5)  # what lies beyond is drawn at the edge
        return np.rint((across + 0.5) * (SIDE - 1)).astype(int)

    picture = np.ones((SIDE, SIDE, 3))
    for limit in placed(np.array([low, high])):
        picture[:, limit] = picture[SIDE - 1 - limit, :] = 0.88
    np.fill_diagonal(picture[::-1, :, 0], 0.75)
    np.fill_diagonal(picture[::-1, :, 1], 0.75)
    across, up = placed(points)
    picture[SIDE - 1 - up, across] = (0.16, 0.47, 0.84)
    where = f"thin lines at {low:.4g} and {high:.4g}"
    return {f"Predicted (up) over true (across), {where}; on the slanted one they agree": picture}
