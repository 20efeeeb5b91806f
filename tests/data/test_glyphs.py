"""Generated letters: of one class alike, by every drawer, and other ones for another seed."""

import numpy as np

from fedjourney.data._glyphs import CLASSES, DRAWERS, SIDE, glyphs


def test_letters_are_alike_within_a_class_and_every_drawer_draws_all() -> None:
    images, classes, drawers = glyphs(3, drawings=1)
    assert images.shape == (CLASSES * DRAWERS, 1, SIDE, SIDE)
    assert images.min() == 0
    assert images.max() == 1
    assert {*zip(classes.tolist(), drawers.tolist(), strict=True)} == {*np.ndindex(CLASSES, DRAWERS)}
    flat = images.reshape(CLASSES, DRAWERS, -1).astype(np.float64)
    within = ((flat[:, 0] - flat[:, 1]) ** 2).sum(-1).mean()
    between = ((flat[:-1, 0] - flat[1:, 0]) ** 2).sum(-1).mean()
    assert 0 < within < 0.9 * between
    assert not np.array_equal(images, glyphs(4, drawings=1)[0])
    np.testing.assert_array_equal(images * 255, np.rint(images * 255))
