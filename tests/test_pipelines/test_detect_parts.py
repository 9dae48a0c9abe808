"""Parts of the detection pipeline: settings, the control, scores in sensor pixels, pictures, the task."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from events.batches_detection import DetectionBatch
from events.draw_boxes import place_name
from events.errors import ConfigError
from events.store.detection import BoxesOfWindow
from pipelines.cli.detect import THRESHOLDS, _with_threshold
from pipelines.cli.names import HEADS
from pipelines.cli.program import app
from pipelines.detect_evaluate import found_columns, score_windows, shuffled_in_space, truth_columns
from pipelines.detect_seen import by_polarity, worst_windows
from pipelines.detect_settings import EvaluationSettings, embedded_detections, load_detection
from pipelines.draw_detections import SeenWindow, draw_window, write_clip
from pipelines.errors import ExperimentError
from pipelines.stream.settings import choose_cut
from pipelines.stream.windows import WindowCut
from snn.detection.detector import Detector, build_detector
from snn.detection.predictions import Detections
from snn.detection.settings import DetectorSettings, HeadKind
from snn.training.detection import DetectionTask

NAMES = ("car", "pedestrian")


@dataclass
class MemoryStore:
    """Windows of two recordings, frames half as large as the sensor."""

    boxes: list
    recording = np.array([0, 0, 1], np.uint32)
    t_end_us = np.array([100_000, 200_000, 100_000], np.int64)
    t_start_us = t_end_us - 50_000
    sensor_hw = (60, 80)
    frame_hw = (30, 40)
    class_names = NAMES

    def boxes_of(self, index):
        rows = self.boxes[index]
        return BoxesOfWindow(
            np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
            np.array([row[4] for row in rows], np.uint16),
            np.array([-1 for _ in rows], np.int64),
            np.array([row[5] for row in rows], bool),
        )


@pytest.fixture
def windows():
    return MemoryStore(
        [
            [(2, 2, 12, 10, 0, False), (20, 5, 30, 25, 1, False)],
            [(4, 2, 14, 10, 0, False)],
            [(0, 0, 6, 6, 1, True)],
        ]
    )


def found(*rows):
    """Detections from rows x0, y0, x1, y1, class, score."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 5], table[:, 4].long())


RIGHT = {
    0: found((2, 2, 12, 10, 0, 0.9), (20, 5, 30, 25, 1, 0.8)),
    1: found((4, 2, 14, 10, 0, 0.7)),
    2: found((0, 0, 6, 6, 1, 0.6)),
}


def test_boxes_are_scored_in_pixels_of_the_sensor(windows):
    truth, tracks = truth_columns(windows, np.arange(3))
    assert truth.xyxy[0].tolist() == [4, 4, 24, 20]
    assert truth.recording.tolist() == [0, 0, 0, 1]
    assert truth.t.tolist() == [100_000, 100_000, 200_000, 100_000]
    assert truth.ignore.tolist() == [False, False, False, True]
    assert tracks.tolist() == [-1] * 4
    columns = found_columns(windows, RIGHT)
    assert columns.xyxy.tolist() == truth.xyxy.tolist()
    # Cars have a diagonal of 25.6 px on the sensor: under 30, which leaves the pedestrian alone.
    counted = score_windows(windows, np.arange(2), RIGHT, EvaluationSettings(protocol="cordone"))
    assert [one.boxes for one in counted.classes] == [0, 1]


def test_the_truth_scores_1_and_nothing_found_0(windows):
    scores = score_windows(windows, np.arange(3), RIGHT, EvaluationSettings())
    assert scores.mean_ap == pytest.approx(1.0)
    assert (scores.frames_unmatched, scores.false_positives) == (0, 0)
    # 50 ms in each of three windows, the moment of the label with them.
    assert scores.covered_minutes == pytest.approx(0.15 / 60, rel=1e-3)
    nothing = {index: found() for index in range(3)}
    assert score_windows(windows, np.arange(3), nothing, EvaluationSettings()).mean_ap == 0.0


def test_windows_that_overlap_are_covered_once(windows):
    windows.t_start_us = windows.t_end_us - 100_001
    scores = score_windows(windows, np.arange(3), RIGHT, EvaluationSettings())
    assert scores.covered_minutes == pytest.approx(0.3 / 60, rel=1e-3)
    # The second begins before the first, as windows of so many events may.
    windows.t_start_us = np.array([50_000, 20_000, 60_000])
    scores = score_windows(windows, np.arange(3), RIGHT, EvaluationSettings())
    assert scores.covered_minutes == pytest.approx((0.18 + 0.04) / 60, rel=1e-3)


def test_worst_windows_by_hand(windows):
    wrong = dict(RIGHT)
    # Of window 0 the larger box, 10 x 20, is missed; 1 has the wrong class; 2 finds what is ignored.
    wrong[0] = found((2, 2, 12, 10, 0, 0.9))
    wrong[1] = found((4, 2, 14, 10, 1, 0.7))
    missed, alarmed = worst_windows(windows, np.arange(3), wrong, least_score=0.5)
    assert (missed, alarmed) == ([0, 1], [1])
    missed, alarmed = worst_windows(windows, np.arange(3), wrong, least_score=0.8)
    assert (missed, alarmed) == ([0, 1], [])


def batch_of(frames, index):
    none = [torch.zeros(0) for _ in index]
    return DetectionBatch(frames, none, none, none, torch.tensor(index))


def test_shuffled_keeps_how_many_events_and_not_where():
    frames = (torch.rand(2, 3, 4, 8, 9, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    frames[:, :, 0] *= 3
    (shuffled,) = shuffled_in_space([batch_of(frames, [5, 6, 7])], seed=0)
    assert shuffled.frames.shape == frames.shape
    before, after = (x.flatten(3).sort(dim=-1).values for x in (frames, shuffled.frames))
    assert torch.equal(before, after)
    assert not torch.equal(frames, shuffled.frames)
    # Each window is drawn by itself, whatever is beside it.
    single = frames[:, :1].expand(2, 3, 4, 8, 9)
    (alike,) = shuffled_in_space([batch_of(single, [5, 6, 7])], seed=0)
    assert not torch.equal(alike.frames[:, 0], alike.frames[:, 1])
    (again,) = shuffled_in_space([batch_of(frames[:, 1:2], [6])], seed=0)
    assert torch.equal(again.frames[:, 0], shuffled.frames[:, 1])
    (other,) = shuffled_in_space([batch_of(frames[:, 1:2], [6])], seed=1)
    assert not torch.equal(other.frames, again.frames)


def test_polarities_are_summed_over_steps_and_micro_bins():
    frames = np.zeros((2, 6, 1, 2), np.uint8)
    # Channel p * n + m of n = 3 micro bins.
    frames[0, 2, 0, 0], frames[1, 0, 0, 0], frames[1, 3, 0, 1] = 200, 100, 7
    assert by_polarity(frames).tolist() == [[[300, 0]], [[0, 7]]]


def window_seen(**changes):
    frame = np.zeros((2, 30, 40), np.int64)
    frame[1, 15, 20] = 1
    base = SeenWindow(
        frame, 50_000, np.array([[5, 20, 15, 28.0]]), np.array([0]), np.array([False]),
        np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0),
    )  # fmt: skip
    return replace(base, **changes)


def test_boxes_are_drawn_where_they_are():
    picture = np.asarray(draw_window(window_seen(), NAMES, side_px=160))
    assert picture.shape == (120, 160, 3)
    green = (picture == (0, 158, 115)).all(axis=-1)
    rows, columns = np.nonzero(green)
    # Four pixels to one of the sensor; the far edges are exclusive.
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (20, 59, 80, 111)
    assert not green[90:100, 30:50].any()
    # The event is at column 20, row 15.
    assert (picture[60:64, 80:84] != 255).any(axis=-1).all()
    detection = {
        "found": np.array([[25, 20, 35, 28.0]]),
        "found_class": np.array([1]),
        "score": np.array([0.7]),
    }
    seen = np.asarray(draw_window(window_seen(**detection), NAMES, side_px=160))
    purple = (seen == (170, 51, 119)).all(axis=-1)
    assert purple[111, 100:140].all()
    # Words above it.
    assert purple[62:78].any()
    ignored = np.asarray(draw_window(window_seen(ignore=np.array([True])), NAMES, side_px=160))
    assert not (ignored == (0, 158, 115)).all(axis=-1).any()


def test_captions_say_recording_time_and_what_is_there():
    window = window_seen(recording="drive_td.dat", t_us=1_234_567)
    assert window.where() == "drive_td.dat  1.235 s"
    assert window_seen().where() == "0.050 s"


def test_names_of_boxes_find_places_of_their_own():
    picture, size = (200, 100), (40, 15)
    # Above, as wide as the box; then at its right end; then inside, below, and inside at the lower edge.
    taken, found_places = [], []
    for _ in range(8):
        x, y = place_name((50, 40, 150, 70), size, picture, taken)
        found_places.append((x, y))
        taken.append((x, y, x + size[0], y + size[1]))
    assert found_places == [
        (50, 25), (110, 25), (52, 42), (108, 42), (50, 70), (110, 70),
        (50, 0), (50, 25),
    ]  # fmt: skip
    # At the upper edge it is inside, at the right edge it is moved, and a box off the picture has it there.
    assert place_name((50, 5, 150, 70), size, picture, []) == (52, 7)
    assert place_name((190, 40, 260, 70), size, picture, []) == (160, 25)
    assert place_name((-50, -90, -10, -20), size, picture, []) == (0, 0)


def test_clips_are_gifs_with_a_picture_a_window(tmp_path):
    windows = [
        window_seen(t_us=t, truth=np.array([[t / 1e4, 2, t / 1e4 + 9, 9.0]])) for t in (0, 50_000, 100_000)
    ]
    write_clip(tmp_path / "clip.gif", windows, NAMES)
    with Image.open(tmp_path / "clip.gif") as clip:
        assert (clip.n_frames, clip.info["loop"], clip.info["duration"]) == (3, 0, 100)
    alone = [replace(window, recording=str(number)) for number, window in enumerate(windows)]
    write_clip(tmp_path / "alone.gif", alone, NAMES)
    with Image.open(tmp_path / "alone.gif") as clip:
        assert (clip.n_frames, clip.info["duration"]) == (3, 1000)
    with pytest.raises(ConfigError, match=r"clip\.mp4: found suffix '\.mp4', expected '\.gif'"):
        write_clip(tmp_path / "clip.mp4", windows, NAMES)
    with pytest.raises(ConfigError, match="found no window"):
        write_clip(tmp_path / "none.gif", [], NAMES)


def small_detector():
    torch.manual_seed(0)
    settings = DetectorSettings(executor="reference", width=0.0625, strides=(8, 16), head="anchor_free")
    return build_detector(settings, in_channels=2, input_hw=(32, 32), classes=2)


def some_batch(B=3):
    return SimpleNamespace(
        frames=(torch.rand(2, B, 2, 32, 32) < 0.2).float(),
        boxes=[torch.tensor([[4.0, 4, 20, 20]])] * B,
        labels=[torch.tensor([1])] * B,
        ignore=[torch.tensor([False])] * B,
        index=torch.arange(B),
    )


def test_task_gives_the_detectors_own_loss_and_parts_have_every_window_once():
    detector, batch = small_detector().eval(), some_batch()
    task = DetectionTask(lambda found: (0.0, {}))
    expected = detector.loss(detector(batch.frames), batch.boxes, batch.labels, batch.ignore)
    given = task.loss(detector, batch, target=1.0)
    assert torch.equal(given.loss, expected.total)
    assert given.sums["classes"] == pytest.approx(3 * float(expected.classes))
    assert given.sums["positives"] == expected.positives
    parts = task.parts(batch, 2)
    assert [task.samples(part) for part in parts] == [2, 1]
    assert torch.equal(torch.cat([part.frames for part in parts], dim=1), batch.frames)
    assert [part.index.tolist() for part in parts] == [[0, 1], [2]]


def test_validation_scores_what_is_found_in_every_window():
    detector, seen = small_detector(), {}

    def score(found_):
        seen.update(found_)
        return 0.25, {"ap50": 0.5}

    fabric = SimpleNamespace(autocast=lambda: torch.autocast("cpu", enabled=False))
    result = DetectionTask(score).validate(fabric, detector, [some_batch()])
    assert (result.score, result.numbers) == (0.25, {"ap50": 0.5})
    assert set(seen) == {0, 1, 2}
    assert all(isinstance(of_window, Detections) for of_window in seen.values())
    assert result.loss > 0


@pytest.mark.parametrize("name", embedded_detections())
def test_embedded_experiments_load_and_fit_their_frames(name):
    experiment = load_detection(name)
    assert experiment.name == name
    assert experiment.description
    sensor = {"gen1": (240, 304), "pedro": (260, 346), "shapes": experiment.data.shapes.sensor.sensor_hw}
    T, C, H, W = experiment.data.binning.frame_shape(sensor[experiment.data.dataset])
    with torch.device("meta"):
        detector = Detector(experiment.detector, in_channels=C, input_hw=(H, W), classes=2)
    assert detector.maps_hw
    # LT-SNN's released detector sees one frame.
    assert (T == 1) == (name == "gen1_ltsnn")
    tried = load_detection(name, smoke=True)
    assert (tried.training.epochs, tried.data.dataset, tried.data.source) == (1, "shapes", None)
    assert tried.detector.head == experiment.detector.head


def test_the_same_detector_with_a_learned_and_a_fixed_threshold():
    learned = load_detection("gen1_ltsnn")
    fixed = _with_threshold(learned, "fixed")
    assert learned.detector.neuron.learn_threshold
    assert not fixed.detector.neuron.learn_threshold
    back = _with_threshold(fixed, "learned").detector
    assert back.neuron.learn_threshold
    assert replace(fixed.detector, neuron=learned.detector.neuron) == learned.detector
    assert _with_threshold(learned, None) == learned


def test_a_detector_of_so_many_events_is_streamed_so_many():
    binning = load_detection("gen1_ltsnn").data.binning
    network = SimpleNamespace(binning=binning)
    unsaid = {"rate_hz": None, "window_us": None, "events": None}
    assert choose_cut(network, **unsaid) == WindowCut(events=25_000)
    assert choose_cut(network, **unsaid | {"events": 9}) == WindowCut(events=9)
    assert choose_cut(network, **unsaid | {"window_us": 500}) == WindowCut(500, 500)


def test_what_cannot_be_set_is_said():
    with pytest.raises(
        ExperimentError, match=r"data\.binning\.window_us is 50000 and data\.windows\.window_us 70000"
    ):
        load_detection("shapes", ["data.windows.window_us=70_000"])
    with pytest.raises(
        ExperimentError, match=r"protocol: found 'rtv', expected one of .*; did you mean 'rvt'"
    ):
        load_detection("shapes", ["evaluation.protocol=rtv"])
    with pytest.raises(ExperimentError, match="shape: neither a file nor an embedded detection experiment"):
        load_detection("shape")


def test_command_lines_names_and_refusals():
    from typing import get_args

    assert tuple(HEADS) == get_args(HeadKind)
    run = CliRunner()
    for options, said in (
        (
            ["--head", "sdd"],
            "--head: found 'sdd', expected one of ssd, anchor_free, grid; did you mean 'ssd'",
        ),
        (["--threshold", "none"], f"--threshold: found 'none', expected one of {', '.join(THRESHOLDS)}"),
        (["--smoke", "--data", "x"], "--smoke makes its own data"),
        (["--resume", "x", "--seed", "1"], "--resume goes on with the run's own settings"),
    ):
        result = run.invoke(app, ["run", "detect", *options])
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.stderr.split())
    assert "shapes" in run.invoke(app, ["experiments"]).output
