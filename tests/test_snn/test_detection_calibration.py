"""Calibration of scores and scores over a shift of time, by hand and against plain loops."""

import math

import numpy as np
import pytest

from snn.errors import DetectionError
from snn.metrics.detection.calibration import calibration
from snn.metrics.detection.columns import BoxColumns
from snn.metrics.detection.lateness import boxes_at, score_by_shift

SENSOR = (100, 120)


def columns(rows, *, score=(), ignore=()):
    """Rows are (recording, t, x0, y0, x1, y1, class)."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return BoxColumns(table[:, 0], table[:, 1], table[:, 2:6], table[:, 6], np.array(score), np.array(ignore))


def of_scores(truth, found, **options):
    return calibration(truth, found, "unfiltered", sensor_hw=SENSOR, **options)


def test_calibration_counted_by_hand():
    truth = columns(
        [(0, 1000, 0, 0, 20, 20, 0), (0, 2000, 0, 0, 20, 20, 0), (0, 1000, 60, 60, 90, 90, 0)],
        ignore=[False, False, True],
    )
    found = columns(
        [
            (0, 1000, 0, 0, 20, 20, 0),  # right
            (0, 1000, 1, 0, 20, 20, 0),  # the box is taken
            (0, 1000, 0, 0, 20, 20, 1),  # another class
            (0, 2000, 0, 0, 20, 9, 0),  # overlaps by 0.45
            (0, 2000, 0, 0, 20, 10, 0),  # by 0.5: right
            (0, 1000, 62, 62, 80, 80, 0),  # of a box to ignore: left out
        ],
        score=[0.9, 0.5, 0.75, 0.25, 0.2, 1.0],
    )
    known = of_scores(truth, found, bins=4)
    # (0, .25]: 0.25 and 0.2; (.25, .5]: 0.5; (.5, .75]: 0.75; (.75, 1]: 0.9.
    assert known.detections.tolist() == [2, 1, 1, 1]
    np.testing.assert_allclose(known.mean_score, [0.225, 0.5, 0.75, 0.9], atol=1e-6)
    assert known.right.tolist() == [0.5, 0, 0, 1]
    assert known.error == pytest.approx((2 * 0.275 + 0.5 + 0.75 + 0.1) / 5, abs=1e-6)
    plain = of_scores(truth, columns([])).as_dict()
    assert plain == {"detections": [0] * 10, "mean_score": [None] * 10, "right": [None] * 10, "error": None}
    with pytest.raises(DetectionError, match=r"score, row 1: found 1\.5, expected 0 to 1"):
        of_scores(truth, columns([(0, 1000, 0, 0, 2, 2, 0)] * 2, score=[0.5, 1.5]))


def plain_overlap(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (area[0] + area[1] - shared)


@pytest.mark.parametrize("seed", range(20))
def test_calibration_is_that_of_a_plain_loop(seed):
    random = np.random.default_rng(seed)

    def boxes(count):
        corner = random.integers(0, 6, (count, 2)) * 4
        sides = random.integers(4, 9, (count, 2)) * 4
        places = np.stack([random.integers(0, 2, count), random.integers(1, 4, count) * 200_000], axis=1)
        return np.concatenate([places, corner, corner + sides, random.integers(0, 2, (count, 1))], axis=1)

    there, seen = boxes(12), boxes(60)
    score = random.permutation(60) / 59
    # A frame is a time with a true box.
    held = [n for n in range(60) if any((seen[n, :2] == box[:2]).all() for box in there)]
    taken, right = set(), {}
    for n in sorted(held, key=lambda n: -score[n]):
        rivals = [
            m for m in range(12) if (there[m, [0, 1, 6]] == seen[n, [0, 1, 6]]).all() and m not in taken
        ]
        best = max(rivals, key=lambda m: plain_overlap(seen[n, 2:6], there[m, 2:6]), default=None)
        right[n] = best is not None and plain_overlap(seen[n, 2:6], there[best, 2:6]) >= 0.5
        taken |= {best} if right[n] else set()
    error, total = 0.0, 0
    for b in range(10):
        of_bin = [
            n for n in held if b / 10 < np.float32(score[n]) <= (b + 1) / 10 or (b == 0 and score[n] == 0)
        ]
        total += len(of_bin)
        if of_bin:
            error += abs(sum(right[n] for n in of_bin) - sum(score[n] for n in of_bin))
    found = of_scores(columns(there), columns(seen, score=score))
    assert found.detections.sum() == total == len(held)
    assert 0 < np.nansum(found.right * found.detections).round() == sum(right.values())
    assert found.error == pytest.approx(error / total, abs=1e-6)


def moving(shift_us=0):
    """A box at 100 px a second to the right, another at rest, labels 100 ms apart, 30 ms later or so."""
    rows, tracks = [], []
    for t in range(500_000, 1_000_001, 100_000):
        x = 100 * (t - 500_000 + shift_us) / 1e6
        rows += [(0, t, x, 10, x + 10, 20, 0), (0, t, 80, 50, 100, 80, 1)]
        tracks += [7, 7]  # numbers of tracks are those of a class
    return columns(rows), np.array(tracks)


def test_boxes_move_along_their_tracks():
    truth, tracks = moving()
    for shift in (-40_000, 0, 15_000):
        expected, _ = moving(shift)
        xyxy, known = boxes_at(truth, tracks, shift)
        ends = truth.t + shift
        np.testing.assert_array_equal(known, (ends >= 500_000) & (ends <= 1_000_000))
        np.testing.assert_allclose(xyxy[known], expected.xyxy[known], atol=1e-4)
        np.testing.assert_array_equal(xyxy[~known], truth.xyxy[~known])
    assert not boxes_at(truth, np.full(len(truth), -1), 0)[1].any()
    assert boxes_at(columns([]), np.zeros(0, np.int64), 5)[0].shape == (0, 4)


@pytest.mark.parametrize("late", [-20_000, 0, 20_000])
def test_a_detector_that_lags_scores_highest_before_its_time(late):
    truth, tracks = moving()
    found, _ = moving(-late)
    curve = score_by_shift(
        truth, tracks, found, "unfiltered", class_names=("a", "b"), sensor_hw=SENSOR,
        shifts_us=(-40_000, -20_000, 0, 20_000, 40_000),
    )  # fmt: skip
    assert list(curve) == [-40_000, -20_000, 0, 20_000, 40_000]
    assert max(curve, key=lambda shift: curve[shift]) == -late
    assert curve[-late] == pytest.approx(1)
    for shift, score in curve.items():
        # The box at rest is always right; the other, 10 px wide, is |shift + late| * 100 px/s off.
        off = abs(shift + late) * 1e-4
        overlap = (10 - off) / (10 + off)
        passed = sum(overlap >= limit - 1e-6 for limit in np.linspace(0.5, 0.95, 10))
        assert score == pytest.approx((1 + passed / 10) / 2, abs=1e-6)


def test_a_curve_needs_tracks():
    truth, tracks = moving()
    names = {"class_names": ("a", "b"), "sensor_hw": SENSOR}
    assert score_by_shift(truth, np.full(len(truth), -1), truth, "unfiltered", **names) == {}
    with pytest.raises(DetectionError, match=r"tracks: found shape \[3\], expected \[12\]"):
        score_by_shift(truth, tracks[:3], truth, "unfiltered", **names)
    assert math.isclose(score_by_shift(truth, tracks, truth, "unfiltered", **names)[0], 1)
