"""Detections scored under protocols: against pycocotools, and counted by hand."""

import contextlib
import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from snn.errors import DetectionError
from snn.metrics.detection.coco import FrameBoxes, coco_curves, confusion, mean_of_known
from snn.metrics.detection.columns import BoxColumns, no_boxes
from snn.metrics.detection.evaluate import evaluate_detections
from snn.metrics.detection.protocols import PROTOCOLS

GEN1_HW = (240, 304)
CLASSES = ("car", "pedestrian")


def random_boxes(rng, count, *, frames, classes, sides=(2, 90)):
    corner = rng.uniform(0, 200, (count, 2))
    size = rng.uniform(*sides, (count, 2))
    frame = np.sort(rng.integers(0, frames, count))
    class_id = rng.integers(0, classes, count)
    xyxy = np.concatenate([corner, corner + size], axis=1)
    return FrameBoxes(frame, BoxColumns(np.zeros(count), frame, xyxy, class_id))


def shaken(rng, truth, copies, *, wrong, frames, classes, score_steps):
    """Detections around the truth, some of another class, some anywhere; scores often equal."""
    rows = np.repeat(np.arange(len(truth.frame)), copies)
    xyxy = truth.boxes.xyxy[rows] + rng.normal(0, 4, (len(rows), 4)).astype(np.float32)
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2])
    class_id = np.where(
        rng.random(len(rows)) < 0.1, rng.integers(0, classes, len(rows)), truth.boxes.class_id[rows]
    )
    free = random_boxes(rng, wrong, frames=frames, classes=classes)
    frame = np.concatenate([truth.frame[rows], free.frame])
    order = np.argsort(frame, kind="stable")
    score = rng.integers(0, score_steps, len(frame)) / score_steps
    columns = BoxColumns(
        np.zeros(len(frame)),
        frame,
        np.concatenate([xyxy, free.boxes.xyxy]),
        np.concatenate([class_id, free.boxes.class_id]),
        score,
    )
    return FrameBoxes(frame[order], columns.take(order))


def pycocotools_curves(truth, found, *, frames, classes, band=None):
    """Precision [10, 101, K, areas] and recall [10, K, areas] of pycocotools, NaN where there is no truth."""

    def xywh(boxes, row):
        x0, y0, x1, y1 = boxes.xyxy[row].astype(np.float64).tolist()
        return [x0, y0, x1 - x0, y1 - y0]

    there, detected = COCO(), COCO()
    images = [{"id": n + 1} for n in range(frames)]
    categories = [{"id": k + 1} for k in range(classes)]
    rows = [
        {"id": n + 1, "image_id": int(boxes.frame[n]) + 1, "category_id": int(boxes.boxes.class_id[n]) + 1}
        | {"bbox": xywh(boxes.boxes, n), "score": float(boxes.boxes.score[n])}
        | {"iscrowd": int(boxes.boxes.ignore[n])}
        for boxes in (truth, found)
        for n in range(len(boxes.frame))
    ]
    for row in rows:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    true_rows, found_rows = rows[: len(truth.frame)], rows[len(truth.frame) :]
    if band is not None:
        for row, inside in zip(true_rows, band, strict=True):
            row["area"] = float(inside)
        for row in found_rows:
            row["area"] = 1.0
    there.dataset = {"images": images, "categories": categories, "annotations": true_rows}
    detected.dataset = {"images": images, "categories": categories, "annotations": found_rows}
    with contextlib.redirect_stdout(io.StringIO()):
        there.createIndex()
        detected.createIndex()
        evaluator = COCOeval(there, detected, "bbox")
        if band is not None:
            evaluator.params.areaRng, evaluator.params.areaRngLbl = [[1, 1]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    arrays = (evaluator.eval[name][..., 0] for name in ("precision", "recall"))
    return tuple(np.where(array < 0, np.nan, array) for array in arrays)


@pytest.mark.parametrize("seed", range(8))
def test_curves_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    # The last frames and the last class have no truth; seed 7 puts hundreds of detections in a frame.
    frames, classes = (5, 1) if seed == 7 else (30, 3)
    truth = random_boxes(rng, 120, frames=frames, classes=classes)
    truth = truth._replace(boxes=replace(truth.boxes, ignore=rng.random(120) < 0.1))
    wrong = 2000 if seed == 7 else 300
    found = shaken(
        rng,
        truth,
        3,
        wrong=wrong,
        frames=frames + 2,
        classes=classes + 1,
        score_steps=[5, 20, 1000][seed % 3],
    )
    if seed == 7:
        assert np.bincount(found.frame[found.boxes.class_id == 0]).max() > 100
    sizes = {"frames": frames + 3, "classes": classes + 1}
    precision, recall = pycocotools_curves(truth, found, **sizes)
    curves = coco_curves(truth, found, **sizes)
    np.testing.assert_allclose(curves.precision, precision, atol=1e-6)
    np.testing.assert_allclose(curves.recall, recall, atol=1e-6)
    assert np.isnan(curves.average_precision()[-1])
    assert 0.05 < mean_of_known(curves.average_precision()) < 0.9

    band = rng.random(120) < 0.5
    precision, _ = pycocotools_curves(truth, found, **sizes, band=band)
    in_band = coco_curves(truth, found, **sizes, band=band).precision
    np.testing.assert_allclose(in_band, precision, atol=1e-6)


def test_curves_without_detections_or_truth():
    rng = np.random.default_rng(0)
    truth = random_boxes(rng, 10, frames=3, classes=2)
    nothing = FrameBoxes(np.zeros(0, np.int64), no_boxes())
    assert coco_curves(truth, nothing, frames=3, classes=2).average_precision().tolist() == [0, 0]
    assert np.isnan(coco_curves(nothing, truth, frames=3, classes=2).average_precision()).all()


def columns(*rows, score=True):
    """Rows of recording, t in ms, x0, y0, side, class and score."""
    table = np.array(rows, np.float64).reshape(len(rows), -1)
    corner = table[:, 2:4]
    xyxy = np.concatenate([corner, corner + table[:, 4:5]], axis=1)
    scores = table[:, 6] if score and len(rows) else np.zeros(0)
    return BoxColumns(table[:, 0], table[:, 1] * 1000, xyxy, table[:, 5], scores)


def test_confusion_by_hand():
    truth = FrameBoxes(
        np.array([0, 0, 1, 1]),
        replace(
            columns(
                (0, 0, 0, 0, 40, 0),
                (0, 0, 100, 0, 40, 1),
                (0, 1, 0, 0, 40, 1),
                (0, 1, 100, 100, 80, 1),
                score=False,
            ),
            ignore=np.array([False, False, False, True]),
        ),
    )
    found = FrameBoxes(
        np.array([0, 0, 0, 1, 1]),
        columns(
            (0, 0, 0, 0, 40, 0, 0.9),  # right
            (0, 0, 100, 0, 40, 0, 0.8),  # a pedestrian taken for a car
            (0, 0, 200, 0, 40, 0, 0.2),  # not sure enough
            (0, 1, 200, 0, 40, 1, 0.7),  # nothing there; the pedestrian of this frame is missed
            (0, 1, 110, 110, 30, 0, 0.9),  # in a box to ignore
        ),
    )
    matrix = confusion(truth, found, frames=2, classes=2, least_score=0.5)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def moving_scene(rate_hz, *, seconds=3, first_ms=600):
    """Two cars and a pedestrian that move, at a rate, from 0.6 s on."""
    times = first_ms * 1000 + np.arange(int(seconds * rate_hz)) * 1e6 / rate_hz
    t = np.repeat(times.astype(np.int64), 3)
    move = np.tile([40.0, -30.0, 15.0], len(times)) * (t - t[0]) / 1e6
    x0, y0 = np.tile([5.0, 200.0, 100.0], len(times)) + move, np.tile([20.0, 100.0, 180.0], len(times))
    width, height = np.tile([50.0, 70.0, 24.0], len(times)), np.tile([30.0, 45.0, 50.0], len(times))
    xyxy = np.stack([x0, y0, x0 + width, y0 + height], axis=1)
    return BoxColumns(np.zeros(len(t)), t, xyxy, np.tile([0, 0, 1], len(times)))


@pytest.mark.parametrize("rate_hz", [1, 4, 10, 20, 30, 60])
@pytest.mark.parametrize(
    ("protocol", "sensor_hw"), [*itertools.product(PROTOCOLS, [GEN1_HW]), ("rvt", (360, 640))]
)
def test_truth_against_itself_is_perfect_at_every_rate(protocol, rate_hz, sensor_hw):
    truth = moving_scene(rate_hz)
    scores = evaluate_detections(truth, truth, protocol, class_names=CLASSES, sensor_hw=sensor_hw)
    assert scores.mean_ap == pytest.approx(1, abs=1e-9)
    assert scores.ap50 == pytest.approx(1, abs=1e-9)
    assert scores.self_check == pytest.approx(1, abs=1e-9)
    assert [one.ap for one in scores.classes] == pytest.approx([1, 1])


@pytest.mark.parametrize("rate_hz", [20, 60])
def test_the_published_window_refuses_fast_labels(rate_hz):
    truth = moving_scene(rate_hz)
    with pytest.raises(DetectionError, match=r"truth against itself: found .* expected 1; .*match='nearest'"):
        evaluate_detections(truth, truth, "psee", class_names=CLASSES, sensor_hw=GEN1_HW, match="window")


def test_the_published_window_scores_slow_labels():
    truth = moving_scene(4)
    scores = evaluate_detections(truth, truth, "psee", class_names=CLASSES, sensor_hw=GEN1_HW, match="window")
    assert scores.mean_ap == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("rate_hz", [20, 40, 100])
def test_a_perfect_detector_at_its_own_rate(rate_hz):
    truth, found = moving_scene(4), moving_scene(rate_hz)
    given = {"class_names": CLASSES, "sensor_hw": GEN1_HW}
    assert evaluate_detections(truth, found, "psee", **given).mean_ap == pytest.approx(1, abs=1e-9)
    assert evaluate_detections(truth, found, "psee", **given, match="window").mean_ap < 0.5


def test_the_published_pipeline_restated():
    """Prophesee's filters, window and scores in plain loops and pycocotools."""
    rng = np.random.default_rng(3)
    truth = random_boxes(rng, 200, frames=40, classes=2).boxes
    truth = replace(truth, t=250_000 * (truth.t + 1), recording=truth.t % 3)
    found = shaken(rng, FrameBoxes(truth.t, truth), 3, wrong=0, frames=1, classes=2, score_steps=50).boxes
    found = replace(
        found, t=found.t + rng.integers(-60, 60, len(found)) * 1000, recording=np.zeros(len(found))
    )
    found = replace(found, recording=(np.round(found.t / 250_000).astype(int) - 1) % 3)
    found = found.take(np.lexsort((found.t, found.recording)))

    def kept(boxes):
        sides = boxes.sides()
        large = (sides[:, 0] >= 10) & (sides[:, 1] >= 10) & (np.hypot(*sides.T) >= 30)
        return boxes.take(large & (boxes.t > 500_000))

    left_truth, left_found = kept(truth), kept(found)
    times = sorted(set(zip(left_truth.recording.tolist(), left_truth.t.tolist(), strict=True)))
    frames, true_rows, found_rows = [], [], []
    for recording, t in times:
        rows = np.flatnonzero((left_truth.recording == recording) & (left_truth.t == t))
        near = np.flatnonzero((left_found.recording == recording) & (abs(left_found.t - t) <= 50_000))
        true_rows.extend((len(frames), row) for row in rows)
        found_rows.extend((len(frames), row) for row in near)
        frames.append(t)
    there, detected = (
        FrameBoxes(np.array(rows)[:, 0], boxes.take(np.array(rows)[:, 1]))
        for rows, boxes in ((true_rows, left_truth), (found_rows, left_found))
    )
    precision, _ = pycocotools_curves(there, detected, frames=len(frames), classes=2)
    scores = evaluate_detections(truth, found, "psee", class_names=CLASSES, sensor_hw=GEN1_HW, match="window")
    assert scores.truth_counts.kept == len(left_truth) < 200
    assert scores.frames == len(frames)
    assert scores.mean_ap == pytest.approx(precision[..., 0].mean(), abs=1e-6)
    assert scores.ap50 == pytest.approx(precision[0, ..., 0].mean(), abs=1e-6)
    assert 0.02 < scores.mean_ap < 0.9


def test_a_frame_with_more_than_100_boxes_is_refused():
    corner = np.stack(np.meshgrid(np.arange(12), np.arange(10)), axis=-1).reshape(-1, 2) * 24.0
    truth = BoxColumns(
        np.zeros(120), np.full(120, 1_000_000), np.concatenate([corner, corner + 23], 1), np.zeros(120)
    )
    with pytest.raises(DetectionError, match=r"truth against itself: found .* more than 100 boxes"):
        evaluate_detections(truth, truth, "unfiltered", class_names=CLASSES, sensor_hw=GEN1_HW)


def test_detections_between_classes_and_frames_do_not_help():
    truth = columns((0, 1000, 10, 10, 40, 0), (1, 1000, 10, 10, 40, 0), score=False)
    right = columns((0, 1010, 10, 10, 40, 0, 0.9))
    others = columns((1, 1060, 10, 10, 40, 0, 0.8), (1, 990, 10, 10, 40, 1, 0.8))
    both = BoxColumns(
        *(np.concatenate([getattr(b, n) for b in (right, others)]) for n in vars(right)),
    )
    scores = evaluate_detections(truth, both, "psee", class_names=CLASSES, sensor_hw=GEN1_HW)
    # One of two boxes found with precision 1: 51 of 101 recalls.
    assert scores.mean_ap == pytest.approx(51 / 101)
    assert np.isnan(scores.classes[1].ap)
    assert (scores.frames, scores.frames_unmatched, scores.detections_unmatched) == (2, 0, 1)


def test_voc_counts_every_point_at_an_overlap_of_one_half():
    truth = columns((0, 1, 10, 10, 40, 0), (0, 1, 100, 10, 40, 0), score=False)
    found = columns((0, 1, 10, 10, 40, 0, 0.9), (0, 1, 200, 10, 40, 0, 0.8), (0, 1, 100, 10, 40, 0, 0.7))
    scores = evaluate_detections(truth, found, "voc50", class_names=CLASSES, sensor_hw=GEN1_HW)
    assert scores.mean_ap == scores.ap50 == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(scores.ap75)
    assert scores.curves is None


def test_curves_reach_what_was_found():
    truth = columns((0, 1, 10, 10, 40, 0), (0, 1, 100, 10, 40, 0), score=False)
    found = columns((0, 1, 10, 10, 40, 0, 0.9), (0, 1, 200, 10, 40, 0, 0.8))
    curves = evaluate_detections(truth, found, "unfiltered", class_names=CLASSES, sensor_hw=GEN1_HW).curves
    assert curves.recall[50] == pytest.approx(0.5)
    assert curves.precision50[0].tolist() == pytest.approx([1.0] * 51 + [0.0] * 50)
    assert curves.score50[0, :51].tolist() == pytest.approx([0.9] * 51)
    assert np.isnan(curves.precision50[1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_names": ("car",)}, "truth: found class 1, expected below 1, the number of class_names"),
        ({"protocol": "rvf"}, r"protocol: found 'rvf', expected one of psee, .*did you mean 'rvt'\?"),
        ({"match": "closest"}, "match: found 'closest', expected nearest or window"),
        ({"speed_px_s": np.zeros(3)}, "speed_px_s: found 3 values, expected one for each of 36 true boxes"),
        ({"coverage": np.zeros((1, 2))}, r"coverage: found shape \[1, 2\], expected \[K, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    truth = moving_scene(4)
    arguments = {"protocol": "psee", "class_names": CLASSES, "sensor_hw": GEN1_HW} | change
    with pytest.raises(DetectionError, match=message):
        evaluate_detections(truth, truth, **arguments)


def test_nothing_left_to_score_is_refused():
    truth = replace(moving_scene(4), t=np.zeros(36))
    with pytest.raises(DetectionError, match=r"no box to score under 'psee' \(0 of 36 .*left out: early 36"):
        evaluate_detections(truth, truth, "psee", class_names=CLASSES, sensor_hw=GEN1_HW)


def test_boxes_that_are_none_are_named():
    good = moving_scene(1)
    for change, message in (
        ({"xyxy": np.where(np.arange(9)[:, None] == 4, np.nan, good.xyxy)}, "xyxy, row 4 .*finite numbers"),
        ({"xyxy": good.xyxy[:, [2, 1, 0, 3]]}, r"xyxy, row 0 \(recording 0, t 600000\).*x1 >= x0.*9 rows"),
        ({"class_id": np.full(9, -1)}, "class_id, row 0.*found -1, expected 0 or more"),
        ({"score": np.full(9, np.inf)}, "score, row 0.*found inf, expected a finite number"),
        ({"class_id": np.zeros(8)}, r"class_id: found shape \[8\], expected \[9\]"),
    ):
        with pytest.raises(DetectionError, match=message):
            replace(good, **change)
