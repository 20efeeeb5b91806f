"""Sinusoids are sinusoids, and those of the test are nobody's."""

from pathlib import Path

import numpy as np

from fedjourney.data import Examples, Source
from fedjourney.data.sinusoids import sinusoids


def fitted(part: Examples) -> np.ndarray:
    """Return (amplitude, phase) of each episode by least squares on sin x and cos x [n, 2]; its residual must be 0."""
    found = []
    for x, y in zip(part.x["points"].double().numpy(), part.y["values"].double().numpy(), strict=True):
        design = np.concatenate([np.sin(x), np.cos(x)], 1)
        (a, b), *_ = np.linalg.lstsq(design, y[:, 0], rcond=None)
        np.testing.assert_allclose(design @ [a, b], y[:, 0], atol=1e-5)
        found.append((np.hypot(a, b), np.arctan2(-b, a)))
    return np.array(found)


def test_each_is_a_sinusoid_of_its_own(tmp_path: Path) -> None:
    made = sinusoids(Source(None, tmp_path, 3, tmp_path), sinusoids=30, episodes=2, points=12, validation=5, test=60)
    own, other = fitted(made.train), fitted(made.test)
    np.testing.assert_allclose(own[0::2], own[1::2], atol=1e-5)  # both episodes of one sinusoid
    assert made.columns["sinusoid"].tolist() == np.repeat(np.arange(30), 2).tolist()
    for found in (own[::2], other):
        assert len({tuple(np.round(one, 3)) for one in found}) == len(found)
        assert 0.1 <= found[:, 0].min() < 1
        assert 4 < found[:, 0].max() <= 5
        assert -1e-5 <= found[:, 1].min() < 0.5
        assert 2.6 < found[:, 1].max() <= np.pi + 1e-5
    assert not {tuple(np.round(one, 3)) for one in own} & {tuple(np.round(one, 3)) for one in other}
    assert float(made.train.x["points"].abs().max()) <= 5
    again = sinusoids(Source(None, tmp_path, 4, tmp_path), sinusoids=30, episodes=2, points=12, validation=5, test=60)
    assert again.fingerprint != made.fingerprint
