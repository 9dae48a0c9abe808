"""Which detections are the same object."""

import itertools

import numpy as np
import pytest

from snn.errors import DetectionError
from snn.metrics.detection.columns import BoxColumns, no_boxes
from snn.metrics.detection.tracks import Tracker, TrackSettings, track_boxes

SIZE = 40.0


def square(x, y, size=SIZE):
    return [x, y, x + size, y + size]


def update(tracker, t_ms, *boxes, class_id=None, score=None):
    count = len(boxes)
    classes = np.zeros(count) if class_id is None else np.array(class_id)
    scores = np.ones(count) if score is None else np.array(score)
    return tracker.update(t_ms * 1000, np.array(boxes).reshape(-1, 4), classes, scores).tolist()


def test_objects_keep_their_numbers_in_any_order():
    tracker = Tracker()
    assert update(tracker, 0, square(0, 0), square(100, 0)) == [0, 1]
    assert update(tracker, 50, square(102, 0), square(2, 0), square(200, 0)) == [1, 0, 2]
    assert update(tracker, 100) == []
    assert update(tracker, 150, square(200, 0), square(6, 0)) == [2, 0]


@pytest.mark.parametrize("moves", [True, False])
def test_an_object_that_was_hidden_is_met_where_it_should_be(moves):
    # 15 px in 50 ms: two steps later nothing is left of the overlap but along the way it went.
    tracker = Tracker()
    for n in range(3):
        assert update(tracker, 50 * n, square(15.0 * n, 0)) == [0]
    assert update(tracker, 200) == []
    later = square(15.0 * 6 if moves else 30, 0)
    assert update(tracker, 300, later) == [0 if moves else 1]


def test_velocity_is_by_time_not_by_step():
    # The object goes 1 px a millisecond; looks are 10 or 60 ms apart.
    tracker = Tracker(TrackSettings(least_overlap=0.6))
    times = np.cumsum([0, 10, 10, 60, 10, 60, 60, 10, 10, 60])
    found = [update(tracker, int(t), square(float(t), 0)) for t in times]
    assert found == [[0]] * 10
    assert tracker.tracks[0].velocity.tolist() == pytest.approx([1e-3, 0])


def test_objects_that_pass_each_other_keep_their_numbers():
    # Side by side they overlap each other more than where they were.
    tracker = Tracker()
    numbers = [update(tracker, 20 * n, square(10.0 * n, 0), square(200 - 10.0 * n, 10)) for n in range(21)]
    assert numbers == [[0, 1]] * 21


def test_the_sum_of_overlaps_decides_not_the_first():
    tracker = Tracker(TrackSettings(least_overlap=0.1))
    assert update(tracker, 0, square(0, 0), square(30, 0)) == [0, 1]
    # The first overlaps 1 a little more than 0; given to 1, it would leave nothing for the second.
    assert update(tracker, 50, square(16, 0), square(52, 0)) == [0, 1]


def test_classes_are_apart():
    tracker = Tracker()
    assert update(tracker, 0, square(0, 0), class_id=[0]) == [0]
    assert update(tracker, 50, square(0, 0), square(0, 0), class_id=[1, 0]) == [1, 0]


def test_doubtful_detections_go_on_but_do_not_begin():
    tracker = Tracker(TrackSettings(start_score=0.5, least_score=0.1))
    assert update(tracker, 0, square(0, 0), square(100, 0), score=[0.9, 0.4]) == [0, -1]
    assert update(tracker, 50, square(0, 0), score=[0.2]) == [0]
    assert update(tracker, 100, square(0, 0), score=[0.05]) == [-1]
    # A sure one is matched before a doubtful one that overlaps more.
    assert update(tracker, 150, square(0, 0), square(5, 0), score=[0.3, 0.6]) == [-1, 0]


def test_a_track_ends_when_it_was_not_seen_for_long():
    for gap_ms, number in ((500, 0), (501, 1)):
        tracker = Tracker(TrackSettings(forget_us=500_000))
        assert update(tracker, 0, square(0, 0)) == [0]
        assert update(tracker, gap_ms, square(0, 0)) == [number]
        assert len(tracker.tracks) == 1


def test_memory_is_of_what_is_there_now():
    tracker = Tracker(TrackSettings(forget_us=100_000))
    largest = 0
    for n in range(500):
        update(tracker, 50 * n, square(0, 0), square(45.0 * (n % 100), 500))
        largest = max(largest, len(tracker.tracks))
    assert largest <= 4


def test_columns_of_many_recordings_in_any_order():
    rng = np.random.default_rng(0)
    rows = [
        (recording, 50_000 * n, square(60.0 * k + n, 5.0 * k), k)
        for recording, n, k in itertools.product((3, 8), range(20), range(4))
    ]
    shuffled = rng.permutation(len(rows))
    recording, t, xyxy, true = (np.array([row[n] for row in rows])[shuffled] for n in range(4))
    boxes = BoxColumns(recording, t, xyxy, np.zeros(len(rows)))
    tracks = track_boxes(boxes)
    np.testing.assert_array_equal(tracks, track_boxes(boxes))
    for number in (3, 8):
        of = recording == number
        pairs = set(zip(true[of].tolist(), tracks[of].tolist(), strict=True))
        assert len(pairs) == 4
        assert {track for _, track in pairs} == {0, 1, 2, 3}
    assert track_boxes(no_boxes()).tolist() == []


def test_what_does_not_fit_is_named():
    tracker = Tracker()
    update(tracker, 10, square(0, 0))
    with pytest.raises(
        DetectionError, match="t: found 10000, expected later than the detections before, at 10"
    ):
        update(tracker, 10, square(0, 0))
    for change, message in (
        ({"least_overlap": 0.0}, "least_overlap: found 0.0, expected above 0 to 1"),
        ({"velocity_share": 1.5}, "velocity_share: found 1.5, expected above 0 to 1"),
        ({"least_score": 0.7}, "least_score: found 0.7, expected at most start_score, 0.5"),
        ({"forget_us": -1}, "forget_us: found -1, expected 0 or more"),
    ):
        with pytest.raises(DetectionError, match=message):
            TrackSettings(**change)
