"""Images turned: right angles exactly, others against SciPy, and nothing of the frame."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedjourney.data import Source
from fedjourney.data._affine import inscribed, rotation, warped
from fedjourney.data.rotated_digits import rotated_digits
from fedjourney.data.unseen_classes import unseen_classes
from fedjourney.errors import DataError
from fedjourney.seeds import uniforms


def source(folder: Path, seed: int = 3) -> Source:
    return Source(None, folder, seed, folder)


def test_right_angles_move_every_pixel_to_its_place() -> None:
    images = (np.random.default_rng(0).integers(0, 256, (2, 3, 7, 7)) / 255).astype(np.float32)
    for turns in range(4):
        turned = warped(images, rotation(np.full(2, 90.0 * turns)))
        np.testing.assert_array_equal(turned, np.rot90(images, turns, (2, 3)))  # counter-clockwise


def test_bilinear_is_scipys() -> None:
    from scipy.ndimage import affine_transform

    image = (np.random.default_rng(1).integers(0, 256, (1, 1, 9, 9)) / 255).astype(np.float32)
    (matrix,) = rotation(np.array([23.0])) * 1.1
    shift = np.array([0.7, -1.3])
    ours = warped(image, matrix[None], shift[None])[0, 0]
    rows = matrix[::-1, ::-1]  # SciPy counts rows first
    offset = 4 - rows @ np.array([4.0, 4.0]) + shift[::-1]
    theirs = affine_transform(image[0, 0].astype(np.float64), rows, offset, order=1, mode="constant")
    inside = ours > 0
    within = theirs[inside]
    assert inside.sum() > 30
    np.testing.assert_allclose(ours[inside][within > 0], within[within > 0], atol=0.5 / 255 + 1e-6)


def test_the_target_is_the_angle_that_the_image_was_turned_by(tmp_path: Path) -> None:
    found = rotated_digits(source(tmp_path), largest=90.0, ranges=6)
    plain = rotated_digits(source(tmp_path), largest=1e-9, ranges=6)
    angles = found.test.y["angle"].numpy().astype(np.float64)
    again = inscribed(warped(plain.test.x["image"].numpy(), rotation(angles)))
    # the plain set is cut to the circle before it is turned: the same inside, but for what bilinear takes from its edge
    centre = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    np.testing.assert_allclose(again[centre], found.test.x["image"].numpy()[centre], atol=2 / 255)
    train = found.train.y["angle"].numpy()
    ranges = found.columns["range"]
    assert set(ranges) == set(range(6))
    for number in range(6):
        some = train[ranges == number]
        assert -90 + 30 * number - 1e-4 <= some.min() <= some.max() <= -60 + 30 * number + 1e-4
    assert found.fingerprint != plain.fingerprint
    assert found.classes == 0


def test_uniform_is_uniform() -> None:
    drawn = uniforms(5, 100_000)
    assert 0 <= drawn.min() <= drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 100_000)


def test_no_class_of_a_split_is_in_another(tmp_path: Path) -> None:
    found = unseen_classes(source(tmp_path), groups=2, images=4)
    kinds = [set(part.y["classes"].flatten().tolist()) for part in (found.train, found.validation, found.test)]
    assert [sorted(kind) for kind in kinds] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
    for sheet in found.test.y["classes"]:
        assert len(set(sheet[:, 0].tolist())) == 2
        assert torch.equal(sheet, sheet[:, :1].expand(2, 4))
    assert found.columns["first_label"].tolist() == found.train.y["classes"][:, 0, 0].tolist()
    pixels = found.test.x["images"].flatten(0, 2).flatten(1)
    assert len(pixels.unique(dim=0)) >= len(pixels) - 2  # each image on one sheet (two digits may look alike)


@pytest.mark.parametrize("options", [{"test_classes": 8}, {"validation_classes": 1}, {"test_owners": 1}])
def test_splits_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"expected \[data\]"):
        unseen_classes(source(tmp_path), **options)
