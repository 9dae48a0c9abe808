"""What protocols leave out, which detections are held against which labels, and when; counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from snn.errors import DetectionError
from snn.metrics.detection.alarms import false_alarms
from snn.metrics.detection.bands import box_speed
from snn.metrics.detection.columns import BoxColumns, moments_of, no_boxes, overlaps
from snn.metrics.detection.evaluate import evaluate_detections
from snn.metrics.detection.filters import filter_boxes
from snn.metrics.detection.matching import ByTime, Results, match_times
from snn.metrics.detection.protocols import PROTOCOLS

GEN1_HW = (240, 304)
LARGE_HW = (720, 1280)
HALF_HW = (360, 640)


def boxes(*rows, recording=0):
    """Rows of time in ms, width, height, class, and, where given, x0 and y0."""
    corner = np.array([[*row[4:6]] if len(row) > 4 else [20.0, 30.0] for row in rows])
    size = np.array([row[1:3] for row in rows], np.float64)
    t = np.array([row[0] * 1000 for row in rows])
    xyxy = np.concatenate([corner, corner + size], axis=1)
    return BoxColumns(np.full(len(rows), recording), t, xyxy, np.array([row[3] for row in rows]))


def fallen(counts):
    names = ("class_left_out", "outside", "diagonal", "side", "off_grid", "early")
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}


ROWS = (
    (500, 40, 40, 0),  # at 0.5 s, not after it
    (501, 24, 18, 0),  # a diagonal of 30 exactly
    (600, 24, 17.9, 0),  # just under
    (600, 40, 10, 1),
    (600, 40, 9.9, 1),
    (600, 60, 19, 1),
    (600, 60, 60, 2),
    (100, 60, 60, 1),
    (101, 60, 60, 1),
)


@pytest.mark.parametrize(
    ("protocol", "sensor_hw", "kept", "fell"),
    [
        ("psee", GEN1_HW, [1, 3, 5, 6], {"diagonal": 1, "side": 1, "early": 3}),
        ("psee", HALF_HW, [1, 3, 5, 6], {"diagonal": 1, "side": 1, "early": 3}),
        ("psee", LARGE_HW, [6], {"diagonal": 5, "side": 1, "early": 2}),
        # The limits of sides are interchanged, the first 0.1 s is passed over, there are two classes.
        ("psee-script", GEN1_HW, [0, 8], {"class_left_out": 1, "diagonal": 1, "side": 4, "early": 1}),
        ("psee-script", LARGE_HW, [5, 8], {"class_left_out": 1, "diagonal": 5, "early": 1}),
        ("cordone", GEN1_HW, [0, 6, 7, 8], {"diagonal": 1, "side": 4}),
        ("voc50", GEN1_HW, list(range(9)), {}),
        ("unfiltered", GEN1_HW, list(range(9)), {}),
    ],
)
def test_what_each_protocol_leaves_out(protocol, sensor_hw, kept, fell):
    for truth in (True, False):
        left, rows, counts = filter_boxes(boxes(*ROWS), PROTOCOLS[protocol], sensor_hw=sensor_hw, truth=truth)
        assert rows.tolist() == kept
        assert fallen(counts) == fell
        assert (counts.before, counts.kept) == (9, len(kept))
        np.testing.assert_array_equal(left.t, boxes(*ROWS).t[kept])


def test_clipping_is_of_truth_and_where_said_of_detections():
    across = boxes((700, 100, 40, 0, 280, 10), (700, 40, 40, 0, 310, 10), (700, 40, 60, 0, -10, -20))
    for protocol, truth, expected in (
        ("psee", True, [[280, 10, 380, 50], [310, 10, 350, 50], [-10, -20, 30, 40]]),
        ("cordone", True, [[280, 10, 304, 50], [0, 0, 30, 40]]),
        ("cordone", False, [[280, 10, 304, 50], [0, 0, 30, 40]]),
        ("rvt", True, [[280, 10, 303, 50], [0, 0, 30, 40]]),
        ("rvt", False, [[280, 10, 380, 50], [310, 10, 350, 50], [-10, -20, 30, 40]]),
    ):
        left, _, counts = filter_boxes(across, PROTOCOLS[protocol], sensor_hw=GEN1_HW, truth=truth)
        assert left.xyxy.tolist() == expected
        assert counts.outside == 3 - len(expected)


def test_labels_of_gen1_on_a_grid_of_250_ms():
    times = (90, 600, 725, 848.1, 850.5, 1102, 1353, 1400)
    left, _, counts = filter_boxes(
        boxes(*((t, 50, 50, 0) for t in times)), PROTOCOLS["rvt"], sensor_hw=GEN1_HW, truth=True
    )
    # 848.1 is 1.9 ms off 850, so the next are 250 ms from it: 850.5 is no multiple, 1102 is 3.9 ms off.
    assert left.t.tolist() == [600_000, 848_100]
    assert counts.off_grid == 6
    every = [(t, 50, 50, 0) for t in times]
    assert len(filter_boxes(boxes(*every), PROTOCOLS["rvt"], sensor_hw=GEN1_HW, truth=False)[0]) == 7


def test_a_small_box_makes_no_grid_on_gen1():
    rows = boxes((600, 5, 5, 0), (700, 50, 50, 0), (950, 50, 50, 0))
    left, _, _ = filter_boxes(rows, PROTOCOLS["rvt"], sensor_hw=GEN1_HW, truth=True)
    assert left.t.tolist() == [700_000, 950_000]


@pytest.mark.parametrize(("rate_hz", "every"), [(60, 6), (30, 3), (10, 1), (4, 1)])
def test_labels_of_others_about_every_100_ms(rate_hz, every):
    times = 600_000 + (np.arange(60) * 1e6 / rate_hz).astype(np.int64)
    rows = replace(boxes(*[(0, 90, 90, 0)] * 60), t=times)
    left, _, _ = filter_boxes(rows, PROTOCOLS["rvt"], sensor_hw=LARGE_HW, truth=True)
    assert left.t.tolist() == times[::every].tolist()


def pairs_of(label_ms, detection_ms, match, results=None):
    """Milliseconds of the detections held against each label."""
    truth = boxes(*((t, 40, 40, 0) for t in label_ms))
    found = boxes(*((t, 40, 40, 0) for t in detection_ms)) if detection_ms else no_boxes()
    frames, _ = moments_of(truth.recording, truth.t)
    pairs = match_times(frames, ByTime(found, results), match=match, tolerance_us=50_000)
    return [(found.t[pairs.row[pairs.frame == frame]] // 1000).tolist() for frame in range(len(frames.t))]


def test_which_detections_are_held_against_a_label():
    labels, found = [1000, 1250], [930, 960, 1040, 1040, 1200, 1300, 1301]
    # 960 and 1040 are as near to 1000, 1200 and 1300 to 1250: the earlier counts.
    assert pairs_of(labels, found, "nearest") == [[960], [1200]]
    assert pairs_of(labels, found, "window") == [[960, 1040, 1040], [1200, 1300]]
    assert pairs_of([1000], [1040, 1040], "nearest") == [[1040, 1040]]
    assert pairs_of([1000, 1010], [1020], "nearest") == [[1020], [1020]]
    assert pairs_of([1000], [949, 1051], "nearest") == [[]]
    assert pairs_of([1000, 2000], [], "nearest") == [[], []]


@pytest.mark.parametrize("seed", range(30))
def test_matching_is_that_of_plain_loops(seed):
    rng = np.random.default_rng(seed)

    def some(count):
        columns = rng.integers(0, 3, count) * 4, rng.integers(0, 40, count) * 10_000
        return BoxColumns(*columns, np.tile([0.0, 0, 9, 9], (count, 1)), np.zeros(count))

    truth, found = some(15), some(int(rng.integers(0, 40)))
    frames, _ = moments_of(truth.recording, truth.t)
    assert list(zip(*map(np.ndarray.tolist, frames), strict=True)) == sorted(
        set(zip(truth.recording.tolist(), truth.t.tolist(), strict=True))
    )
    expected = {"window": set(), "nearest": set()}
    for frame, (recording, t) in enumerate(zip(*frames, strict=True)):
        near = [n for n in range(len(found)) if found.recording[n] == recording]
        near = [n for n in near if abs(found.t[n] - t) <= 50_000]
        expected["window"].update((frame, n) for n in near)
        if near:
            best = min((abs(found.t[n] - t), found.t[n]) for n in near)[1]
            expected["nearest"].update((frame, n) for n in near if found.t[n] == best)
    for match, pairs in expected.items():
        given = match_times(frames, ByTime(found), match=match, tolerance_us=50_000)
        assert sorted(zip(given.frame.tolist(), given.row.tolist(), strict=True)) == sorted(pairs)


def test_an_answer_that_found_nothing_is_an_answer():
    results = Results(np.zeros(3), np.array([970, 990, 1040]) * 1000)
    assert pairs_of([1000], [970, 1040], "nearest") == [[970]]
    assert pairs_of([1000], [970, 1040], "nearest", results) == [[]]


def test_recordings_are_apart():
    truth = [boxes((1000, 40, 40, 0), recording=n) for n in (0, 3)]
    both = BoxColumns(*(np.concatenate([getattr(one, name) for one in truth]) for name in vars(truth[0])))
    frames, _ = moments_of(both.recording, both.t)
    found = boxes((1000, 40, 40, 0), (990, 40, 40, 0), recording=3)
    pairs = match_times(frames, ByTime(found), match="nearest", tolerance_us=50_000)
    assert (pairs.frame.tolist(), pairs.row.tolist()) == ([1], [0])


def scored(found, score):
    return replace(found, score=np.full(len(found), score))


def evaluate(truth, found, protocol="unfiltered", **more):
    return evaluate_detections(truth, found, protocol, class_names=("car",), sensor_hw=GEN1_HW, **more)


def test_streaming_counts_an_answer_from_when_it_is_there():
    # A car moves by its own width every 100 ms; the detector sees it exactly, and answers 30 or 120 ms late.
    times = [1000, 1100, 1200, 1300]
    truth = boxes(*((t, 40, 40, 0, 40 * n, 30) for n, t in enumerate(times)))
    for delay_ms, ap, unanswered in ((0, 1.0, 0), (30, 0.0, 1), (120, 0.0, 2)):
        results = Results(np.zeros(4), np.array(times) * 1000, np.array(times) * 1000 + delay_ms * 1000)
        scores = evaluate(truth, truth, results=results)
        assert scores.mean_ap == pytest.approx(1)
        assert scores.streaming.mean_ap == pytest.approx(ap)
        assert scores.streaming.mean_delay_us == delay_ms * 1000
        assert scores.streaming.frames_unanswered == unanswered


def test_streaming_average_precision_by_hand():
    # Labels at 1.0, 1.1, 1.2 s of a car that stands still. Answers: one of 0.99 s there at 1.0 s (counts at
    # 1.0), one of 1.05 s that found nothing there at 1.09 s (counts at 1.1), one of 1.1 s there at 1.2 s.
    truth = boxes((1000, 40, 40, 0), (1100, 40, 40, 0), (1200, 40, 40, 0))
    found = boxes((990, 40, 40, 0), (1100, 40, 40, 0))
    results = Results(np.zeros(3), np.array([990, 1050, 1100]) * 1000, np.array([1000, 1090, 1200]) * 1000)
    streaming = evaluate(truth, found, results=results).streaming
    # Two of three boxes with precision 1: recalls 0 to 0.66.
    assert streaming.mean_ap == pytest.approx(67 / 101)
    assert streaming.mean_delay_us == pytest.approx((10 + 40 + 100) / 3 * 1000)
    # An answer overtaken by one that had seen more is not gone back to.
    late = results._replace(ready_us=np.array([1195, 1090, 1150]) * 1000)
    assert evaluate(truth, found, results=late).streaming.frames_unanswered == 1
    assert evaluate(truth, found, results=late).streaming.mean_ap == pytest.approx(34 / 101)


def test_answers_that_cannot_be_are_named():
    truth = boxes((1000, 40, 40, 0))
    early = Results(np.zeros(1), np.array([1_000_000]), np.array([999_000]))
    with pytest.raises(DetectionError, match="answer 0 was ready at 999000, before the end of what it saw"):
        evaluate(truth, truth, results=early)
    other = Results(np.zeros(1), np.array([900_000]))
    with pytest.raises(DetectionError, match="no answer of recording 0 at t 1000000, where detection 0 is"):
        evaluate(truth, truth, results=other)


def test_a_frame_whose_boxes_are_too_small_is_free_or_not():
    truth = boxes((1000, 50, 50, 0), (2000, 8, 8, 0))
    found = replace(boxes((1000, 50, 50, 0), (2000, 50, 50, 0)), score=np.array([0.5, 0.9]))
    assert evaluate(truth, found, "psee").mean_ap == pytest.approx(1)
    assert evaluate(truth, found, "cordone").mean_ap == pytest.approx(0.5)


def test_false_alarms_by_hand():
    truth = boxes((1000, 40, 40, 0, 0, 0), (2000, 40, 40, 0, 60, 0))
    found = boxes(
        (1500, 40, 40, 0, 0, 0),  # where the car was
        (1500, 40, 40, 0, 70, 0),  # where it will be
        (1500, 40, 40, 0, 200, 0),  # nothing: 1
        (2000, 40, 40, 0, 0, 0),  # at a label, where the car no longer is: 2
        (30_000, 40, 40, 0, 60, 0),  # long after: 3
        (70_000, 40, 40, 0, 60, 0),  # not covered
    )
    coverage = np.array([[0, 0, 60_000_000]])
    assert false_alarms(truth, found, coverage=coverage, least_score=0.5) == (3, 1.0)
    assert false_alarms(truth, scored(found, 0.4), coverage=coverage, least_score=0.5) == (0, 1.0)
    # A street without any object, in a recording without a label.
    empty = replace(found, recording=np.full(6, 7))
    spans = np.array([[7, 0, 40_000_000], [7, 60_000_000, 80_000_000], [0, 0, 60_000_000]])
    assert false_alarms(truth, empty, coverage=spans, least_score=0.5) == (6, 2.0)
    scores = evaluate(truth, found, coverage=coverage)
    assert scores.false_positives_per_minute == pytest.approx(3)
    assert evaluate(truth, found).false_positives_per_minute is None


def test_speed_of_boxes():
    rows = boxes(
        (0, 40, 40, 0, 0, 0),
        (500, 40, 40, 0, 3, 4),
        (1000, 40, 40, 0, 6, 8),
        (0, 10, 10, 0, 9, 9),
        (100, 10, 10, 0, 9, 9),
        (0, 10, 10, 0, 5, 5),
        (500, 10, 10, 0, 9, 5),
    )
    speed = box_speed(rows, np.array([1, 1, 1, 2, 2, -1, 3]))
    assert speed[:5].tolist() == pytest.approx([10, 10, 10, 0, 0])
    assert np.isnan(speed[5:]).all()


def test_scores_by_speed_and_density():
    # A slow car is found, a fast one is not, and there is one false alarm of middling score.
    truth = boxes((1000, 40, 40, 0, 0, 0), (1000, 40, 40, 0, 100, 0), (1000, 40, 40, 0, 100, 100))
    found = replace(
        boxes((1000, 40, 40, 0, 0, 0), (1000, 40, 40, 0, 200, 100), (1000, 40, 40, 0, 100, 100)),
        score=np.array([0.9, 0.8, 0.7]),
    )
    scores = evaluate(
        truth, found, speed_px_s=np.array([10.0, 90.0, np.nan]), events_in_box=np.array([1600, 800, 8])
    )
    slow, fast = scores.by_speed["slow, 5 to 50 px/s"], scores.by_speed["fast, from 50 px/s"]
    assert (slow.mean_ap, slow.boxes, fast.mean_ap, fast.boxes) == (pytest.approx(1), 1, 0, 1)
    assert np.isnan(scores.by_speed["still, below 5 px/s"].mean_ap)
    few = scores.by_density["below 0.01 events/px"]
    assert (few.mean_ap, few.boxes) == (pytest.approx(0.5), 1)  # after the false alarm
    assert scores.by_density["all from 0.01 events/px"].boxes == 2


def test_scores_as_text_and_json():
    truth = boxes((1000, 40, 40, 0), (300, 40, 40, 0), (1000, 8, 40, 0))
    results = Results(np.zeros(2), np.array([300_000, 1_000_000]), np.array([310_000, 1_010_000]))
    scores = evaluate(truth, truth, "psee", results=results, coverage=np.array([[0, 0, 60_000_000]]))
    text = "\n".join(scores.lines())
    assert "protocol psee: diagonal >= 30 px, sides >= 10 px, match nearest within 50 ms" in text
    assert "truth: 1 of 3 boxes count; left out: side 1, early 1" in text
    assert "car: AP 100.0  AP50 100.0" in text
    assert "small -" in text
    read = json.loads(json.dumps(scores.as_dict(), allow_nan=False))
    assert read["truth_counts"]["early"] == 1
    assert read["ap_small"] is None
    assert read["classes"][0]["name"] == "car"
    assert len(read["curves"]["precision50"][0]) == 101
    assert read["streaming"]["mean_delay_us"] == 10_000


def test_overlaps_of_boxes():
    first = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], np.float32)
    second = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    assert overlaps(first, second).tolist() == [[pytest.approx(1 / 3), 0, 0], [0, 0, 0]]
