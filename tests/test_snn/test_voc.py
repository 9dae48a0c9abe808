"""Average precision counted by hand."""

import numpy as np
import pytest

from snn.errors import DetectionError
from snn.metrics.voc import ImageBoxes, average_precision

SQUARE = [0.0, 0.0, 10.0, 10.0]
FAR = [50.0, 50.0, 60.0, 60.0]


def image(*rows):
    """Rows of box, label and, of detections, score."""
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    scores = np.array([row[2] for row in rows]) if rows and len(rows[0]) > 2 else None
    return ImageBoxes(boxes, np.array([row[1] for row in rows]), scores)


NOTHING = ImageBoxes(np.zeros((0, 4)), np.zeros(0), np.zeros(0))


def test_precision_over_every_point():
    truth = [image((SQUARE, 0), (FAR, 0)), image((SQUARE, 0), (FAR, 1))]
    # By score: right, wrong (found before), right, wrong (in the other image): precision 1, 1/2, 2/3.
    found = [
        image((SQUARE, 0, 0.9), (SQUARE, 0, 0.8)),
        image((FAR, 0, 0.1), (SQUARE, 0, 0.5)),
    ]
    result = average_precision(found, truth, classes=3)
    assert result.average_precision[:2].tolist() == pytest.approx([(1 + 2 / 3) / 3, 0])
    assert np.isnan(result.average_precision[2])
    assert (result.right.tolist(), result.wrong.tolist(), result.boxes.tolist()) == (
        [2, 0, 0],
        [2, 0, 0],
        [3, 1, 0],
    )
    assert result.mean == pytest.approx((1 + 2 / 3) / 6)


def test_precision_never_rises_again():
    truth = [image((SQUARE, 0), (FAR, 0))]
    found = [image(([20.0, 0.0, 30.0, 10.0], 0, 0.9), (SQUARE, 0, 0.8), (FAR, 0, 0.7))]
    assert average_precision(found, truth, classes=1).average_precision.tolist() == pytest.approx([2 / 3])


def test_images_do_not_find_each_others_boxes():
    truth, found = image((SQUARE, 0)), image((SQUARE, 0, 0.5))
    assert average_precision([found, NOTHING], [truth, NOTHING], classes=1).mean == 1
    assert average_precision([found, NOTHING], [NOTHING, truth], classes=1).mean == 0
    assert np.isnan(average_precision([NOTHING], [NOTHING], classes=1).mean)


def test_sides_up_to_the_last_pixel_are_one_longer():
    truth, found = [image(([0.0, 0.0, 1.0, 3.0], 0))], [image(([0.0, 0.0, 0.0, 3.0], 0, 1.0))]
    assert average_precision(found, truth, classes=1).right.tolist() == [0]  # no width between its edges
    assert average_precision(found, truth, classes=1, area="inclusive").right.tolist() == [1]  # 4 of 8 pixels


def test_what_does_not_fit_is_named():
    with pytest.raises(DetectionError, match="found 1 and 2 images"):
        average_precision([NOTHING], [NOTHING, NOTHING], classes=1)
    with pytest.raises(DetectionError, match="an image has no scores"):
        average_precision([image((SQUARE, 0))], [NOTHING], classes=1)
    with pytest.raises(DetectionError, match="area: found 'pixels', expected edges or inclusive"):
        average_precision([], [], classes=1, area="pixels")
