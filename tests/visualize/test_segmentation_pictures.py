"""Pictures of segmentations: what is where, in which colour."""

from __future__ import annotations

import numpy as np

from tfdetect.detections import PanopticSegmentation, Segment
from tfdetect.visualize.pictures import PALETTE, draw_panoptic, draw_semantic

RED, GREEN = (255, 0, 0), (0, 200, 0)


def grey(height, width):
    return np.full([height, width, 3], 128, np.uint8)


def at(picture, y, x):
    """(red, green, blue) as numbers that can be negative."""
    return picture[y, x, ::-1].astype(int)


def leans(pixel, color):
    """Grey with a translucent colour over it is nearer to the colour than grey is."""
    grey_distance = np.abs(np.array(color) - 128).sum()
    return np.abs(pixel - color).sum() < 0.8 * grey_distance


def test_semantic():
    """Each class in its colour; a class without name and colour is drawn all the same."""
    labels = np.zeros([700, 700], np.int32)
    labels[:, 350:] = 1
    labels[600:, :] = 9
    picture = draw_semantic(grey(700, 700), labels, ["sky", "grass"], [RED, GREEN])
    assert picture.shape == (700, 700, 3)
    assert leans(at(picture, 50, 50), RED)
    assert leans(at(picture, 50, 650), GREEN)
    assert leans(at(picture, 690, 50), PALETTE.by_idx(9).as_rgb())


def test_small_images_are_enlarged_and_slivers_unlabelled():
    labels = np.zeros([80, 160], np.int32)
    labels[0, 0] = 1
    picture = draw_semantic(grey(80, 160), labels, ["sky", "W" * 40], [RED, GREEN])
    assert picture.shape == (320, 640, 3)
    # The label of the lone pixel would lie over the top left of the picture.
    assert leans(at(picture, 20, 300), RED)


def test_panoptic():
    """Stuff in its class's colour, things in the palette's, nothing where there is no segment."""
    ids = np.zeros([700, 700], np.int32)
    ids[:300] = 3
    ids[300:600, :300] = 1
    ids[300:600, 400:] = 2
    segments = (
        Segment(1, 0, True, 90_000, 0.9, 0),
        Segment(2, 0, True, 90_000, 0.8, 2),
        Segment(3, 1, False, 210_000),
    )
    panoptic = PanopticSegmentation(ids, segments)
    picture = draw_panoptic(grey(700, 700), panoptic, ["cat"], ["things", "grass"], [RED, GREEN])
    assert leans(at(picture, 20, 20), GREEN)
    assert leans(at(picture, 590, 10), PALETTE.by_idx(0).as_rgb())
    assert leans(at(picture, 590, 690), PALETTE.by_idx(1).as_rgb())
    np.testing.assert_array_equal(at(picture, 690, 350), [128, 128, 128])


def test_panoptic_without_segments():
    image = grey(700, 700)
    nothing = PanopticSegmentation(np.zeros([700, 700], np.int32), ())
    np.testing.assert_array_equal(draw_panoptic(image, nothing, [], []), image)
