"""`pipelines detect stream`: boxes, state, files, latency, and recordings that are not as they should be."""

import csv
import json
import signal
import threading
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from suites.stream_stand_ins import (
    BINNING,
    NAMES,
    SENSOR_HW,
    SetClock,
    moving_events,
    recorded,
    small_network,
)

from events.binning.window import bin_window
from events.errors import DamagedRecording, EventsError
from events.labels.formats import read_labels
from events.readers.registry import open_recording
from events.recording import ReadOptions
from pipelines.detect_stream import detect_stream
from pipelines.errors import ExperimentError, RunError
from pipelines.stream.detector import WindowDetector
from pipelines.stream.encoders import mp4_encoder
from pipelines.stream.files import WindowResult, parquet_file
from pipelines.stream.latency import Histogram
from pipelines.stream.pace import PaceSettings
from pipelines.stream.settings import StreamFiles, StreamSettings, choose_cut
from pipelines.stream.windows import CutCounts, WindowCut, cut_windows


@pytest.fixture(scope="module")
def network():
    return small_network()


@pytest.fixture
def file(tmp_path):
    return recorded(tmp_path / "spot.dat", moving_events())


def files_in(folder, **more):
    boxes = tuple(folder / f"boxes{suffix}" for suffix in (".csv", ".npy", ".jsonl", ".txt", ".parquet"))
    return StreamFiles(boxes, folder / "summary.json", **more)


def side_by_side(**changes):
    given = {"cut": WindowCut(30_000, 30_000), "stateless": True, "device": "cpu", "least_score": 0.01}
    return StreamSettings(**(given | changes))


def lines_of(folder):
    return [json.loads(line) for line in (folder / "boxes.jsonl").read_text().splitlines()]


def boxes_of(line):
    return [(*box["xyxy"], box["class_id"], box["score"]) for box in line["boxes"]]


def frames_of(path, stops_us, binning=BINNING):
    """The definition of binning, of all events at once; shape [T, B, C, H, W]."""
    events = open_recording(path).read()
    found = [bin_window(events, settings=binning, sensor_hw=SENSOR_HW, stop_us=stop) for stop in stops_us]
    return torch.from_numpy(np.stack([one.frames for one in found], axis=1)).float()


def test_stateless_boxes_are_those_of_one_batch(network, file, tmp_path):
    detect_stream(network, open_recording(file), side_by_side(), files_in(tmp_path))
    lines = lines_of(tmp_path)
    assert [line["t_us"] for line in lines] == list(range(30_000, 300_001, 30_000))
    with torch.no_grad():
        predictions = network.detector(frames_of(file, [line["t_us"] for line in lines]))
    expected = network.detector.detections(predictions, score_threshold=0.01)
    assert sum(len(found.scores) for found in expected) > 10
    for line, found in zip(lines, expected, strict=True):
        rows = zip(found.xyxy.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
        assert boxes_of(line) == [
            (*(round(value, 2) for value in xyxy), label, round(score, 4)) for xyxy, label, score in rows
        ]


def test_stateless_boxes_are_so_to_the_bit(network, file):
    counts = CutCounts()
    look = WindowDetector(
        network,
        sensor_hw=SENSOR_HW,
        rescale=False,
        stateless=True,
        least_score=0.01,
        device=torch.device("cpu"),
        clock=SetClock(),
        where="spot",
    )
    windows = cut_windows(open_recording(file), WindowCut(30_000, 30_000), counts)
    found = [look(window) for window in windows]
    with torch.no_grad():
        predictions = network.detector(frames_of(file, range(30_000, 300_001, 30_000)))
    expected = network.detector.detections(predictions, score_threshold=0.01)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.xyxy, other.xyxy.numpy())
        np.testing.assert_array_equal(one.score, other.scores.numpy())
        np.testing.assert_array_equal(one.class_id, other.labels.numpy())


def test_state_is_carried_from_window_to_window(network, file, tmp_path):
    detect_stream(network, open_recording(file), side_by_side(stateless=False), files_in(tmp_path))
    lines, state = lines_of(tmp_path), None
    apart = 0
    for line in lines:
        frames = frames_of(file, [line["t_us"]])
        with torch.no_grad():
            predictions = network.detector(frames, state)
            alone = network.detector(frames)
        state = predictions.state
        (found,) = network.detector.detections(predictions, score_threshold=0.01)
        assert [box["score"] for box in line["boxes"]] == [round(s, 4) for s in found.scores.tolist()]
        apart += not torch.equal(predictions.class_logits, alone.class_logits)
    assert apart == len(lines) - 1


def test_every_file_tells_the_same_boxes(network, file, tmp_path):
    summary = detect_stream(network, open_recording(file), side_by_side(), files_in(tmp_path))
    lines = lines_of(tmp_path)
    assert summary["boxes"] == sum(len(line["boxes"]) for line in lines) > 10
    with (tmp_path / "boxes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["t_us"]), row["class"], float(row["score"])) for row in rows] == [
        (line["t_us"], box["class"], box["score"]) for line in lines for box in line["boxes"]
    ]
    assert {row["class"] for row in rows} <= set(NAMES)
    records = np.load(tmp_path / "boxes.npy")
    assert records.dtype.itemsize == 40
    labels = read_labels(tmp_path / "boxes.npy")
    assert len(labels) == summary["boxes"]
    assert np.all(np.diff(labels.t) >= 0)
    table = parquet.read_table(tmp_path / "boxes.parquet")
    told = ("class", "class_id", "track_id")
    expected = [(line["t_us"], box) for line in lines for box in line["boxes"]]
    for row, (t_us, box) in zip(table.to_pylist(), expected, strict=True):
        assert (row["t_us"], [row[name] for name in told]) == (t_us, [box[name] for name in told])
        assert [round(row[name], 2) for name in ("x0", "y0", "x1", "y1")] == box["xyxy"]
        assert round(row["score"], 4) == box["score"]
    assert json.loads(table.schema.metadata[b"class_names"]) == list(NAMES)
    assert table.schema.field("x0").metadata[b"unit"] == b"px"
    by_track = {
        (line["t_us"] // 30_000, box["track_id"] + 1): box["xyxy"]
        for line in lines
        for box in line["boxes"]
        if box["track_id"] is not None
    }
    mot = np.loadtxt(tmp_path / "boxes.txt", delimiter=",", ndmin=2)
    assert mot.shape == (len(by_track), 10)
    for frame, track, left, top, width, height, *_ in mot:
        x0, y0, x1, y1 = by_track[int(frame), int(track)]
        np.testing.assert_allclose((left - 1, top - 1, width, height), (x0, y0, x1 - x0, y1 - y0), atol=0.02)
    assert summary["tracks"] == len({track for _, track in by_track})


def test_times_rise_and_latency_is_recorded(network, file, tmp_path):
    files = files_in(tmp_path, latency=tmp_path / "latency.png")
    summary = detect_stream(network, open_recording(file), side_by_side(), files)
    times = [line["t_us"] for line in lines_of(tmp_path)]
    assert all(b > a for a, b in pairwise(times))
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    for name in ("decode", "encode", "forward", "nms"):
        found = summary["parts_ms"][name]
        assert 0 <= found["p50"] <= found["p90"] <= found["p99"] <= found["p99.9"] <= found["max"]
    latencies = sorted(line["latency_ms"] for line in lines_of(tmp_path))
    assert summary["latency_ms"]["p99"] == pytest.approx(latencies[-1], rel=0.011)
    assert summary["latency_ms"]["p50"] == pytest.approx(latencies[4], rel=0.011)
    assert summary["age_ms"]["max"] == pytest.approx(15 + latencies[-1], rel=1e-3)
    assert summary["events"] == summary["report"]["events"] == 60_000
    assert summary["real_time_factor"] == pytest.approx(0.3 / summary["busy_s"])
    with Image.open(tmp_path / "latency.png") as picture:
        assert min(picture.size) > 300


def test_percentiles_are_within_a_hundredth():
    rng = np.random.default_rng(5)
    values = rng.lognormal(-4, 2, 20_001)
    histogram = Histogram()
    for value in values:
        histogram.add(float(value))
    for percent in (0.001, 50, 90, 99, 99.9, 100):
        expected = float(np.percentile(values, percent, method="inverted_cdf"))
        assert expected <= histogram.percentile(percent) * (1 + 1e-9)
        assert histogram.percentile(percent) <= expected * 1.0101
    assert histogram.as_dict()["max"] == 1e3 * values.max()
    assert Histogram().as_dict() == {}


class SlowNetwork:
    """Stands for the clock of a machine on which every look at a window takes a while."""

    def __init__(self, detector, clock, seconds):
        self.clock, self.seconds, self._forward = clock, seconds, detector.forward

    def __call__(self, frames, state=None):
        self.clock.sleep(self.seconds)
        return self._forward(frames, state)


@pytest.mark.parametrize("policy", ["wait", "drop-oldest", "widen"])
def test_in_real_time_a_slow_network_is_late_or_drops_or_widens(network, file, tmp_path, policy, monkeypatch):
    clock = SetClock()
    slow = SlowNetwork(network.detector, clock, 0.075)
    monkeypatch.setattr(network.detector, "forward", slow)
    settings = side_by_side(pace=PaceSettings(1.0, policy))
    summary = detect_stream(network, open_recording(file), settings, files_in(tmp_path), clock=clock)
    lines = lines_of(tmp_path)
    assert summary["deadline_misses"] == len(lines)
    assert summary["parts_ms"]["forward"]["max"] == pytest.approx(75)
    if policy == "wait":
        expected = 75 + 45 * np.arange(10)
        np.testing.assert_allclose([line["latency_ms"] for line in lines], expected, atol=0.01)
        assert summary["parts_ms"]["wait"]["max"] == pytest.approx(405)
    elif policy == "drop-oldest":
        assert len(lines) + summary["dropped_windows"] == 10
        assert summary["dropped_windows"] > 4
        assert summary["latency_ms"]["max"] < 75 + 30 + 1e-6
        seen = sum(line["events"] for line in lines)
        assert seen + summary["dropped_events"] == 60_000
    else:
        assert sum(line["joined"] for line in lines) == 10
        assert summary["joined_windows"] == 10 - len(lines) > 4
        assert sum(line["events"] for line in lines) == 60_000
        assert all(b["start_us"] == a["t_us"] for a, b in pairwise(lines))


def test_windows_of_events(network, file, tmp_path):
    settings = side_by_side(cut=WindowCut(events=7_000), stateless=False)
    summary = detect_stream(network, open_recording(file), settings, files_in(tmp_path))
    lines = lines_of(tmp_path)
    assert [line["events"] for line in lines] == [7_000] * 8 + [4_000]
    assert summary["boxes"] > 0
    # What the third window showed: its events between its own bounds.
    events, third = open_recording(file).read(), lines[2]
    binning = replace(BINNING, window_us=third["t_us"] - third["start_us"])
    expected = bin_window(events, settings=binning, sensor_hw=SENSOR_HW, stop_us=third["t_us"])
    assert expected.n_events == 7_000


def test_a_film_shows_every_window_and_its_boxes(network, file, tmp_path):
    film = tmp_path / "film.gif"
    detect_stream(network, open_recording(file), side_by_side(), files_in(tmp_path, film=film))
    (line, *_) = lines_of(tmp_path)
    with Image.open(film) as pictures:
        assert pictures.n_frames == 10
        assert pictures.info["duration"] == 30
        pixels = np.asarray(pictures.convert("RGB"))
    scale = 480 // 64
    (_, y0, x1, y1), number = line["boxes"][0]["xyxy"], line["boxes"][0]["class_id"]
    rgb = [(0, 158, 115), (204, 121, 167), (230, 159, 0)][number]
    right, top, bottom = (round(value * scale) for value in (x1, y0, y1))
    # The far edge of the surest box, but for where words or other boxes lie over it.
    edge = pixels[top : max(bottom, top + 1), min(max(right - 1, 0), 64 * scale - 1)]
    assert np.mean((edge == rgb).all(axis=1)) > 0.3


def test_a_film_as_mp4_keeps_the_recordings_time(network, file, tmp_path):
    files = files_in(tmp_path, film=tmp_path / "film.mp4")
    # Windows end where events do, not on a grid.
    cut = WindowCut(events=7_000)
    detect_stream(network, open_recording(file), side_by_side(cut=cut), files)
    lines = lines_of(tmp_path)
    with av.open(str(files.film)) as film:
        (video,) = film.streams.video
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = list(film.decode(video))
    since_us = [line["t_us"] - lines[0]["t_us"] for line in lines]
    assert [round(frame.time * 1e6) for frame in frames] == since_us
    # As bright as the GIF, whose boxes another test looks for; its times of latency, at the foot, are others.
    gif = files_in(tmp_path, film=tmp_path / "film.gif")
    detect_stream(network, open_recording(file), side_by_side(cut=cut), gif)
    with Image.open(gif.film) as pictures:
        for number, frame in enumerate(frames):
            pictures.seek(number)
            bright, expected = (
                np.asarray(picture.convert("L")).astype(int)[:336] for picture in (frame.to_image(), pictures)
            )
            assert np.mean(np.abs(bright - expected)) < 8
            assert np.corrcoef(bright.ravel(), expected.ravel())[0, 1] > 0.97


def test_a_film_of_odd_sides_is_filled_up(tmp_path):
    path = tmp_path / "film.mp4"
    pictures = [Image.new("RGB", (31, 45), (r, 60, 200)) for r in (0, 250)]
    with path.open("wb") as stream, mp4_encoder(stream) as write:
        write(pictures[0], 0, 1_000_003)
        write(pictures[1], 1_000_003, 1_020_003)
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(32, 46)] * 2
    assert [frame.pts * frame.time_base for frame in frames] == [0, Fraction(1_000_003, 1_000_000)]
    for picture, frame in zip(pictures, frames, strict=True):
        shown = np.asarray(frame.to_image()).astype(int)
        np.testing.assert_allclose(shown[:40, :28].mean(axis=(0, 1)), picture.getpixel((0, 0)), atol=6)


def test_parquet_is_written_in_groups_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.stream.files.GROUP_ROWS", 5)
    xyxy = np.arange(8, dtype=np.float32).reshape(2, 4)
    with parquet_file(tmp_path / "boxes.parquet", NAMES) as write:
        for number in range(7):
            n = number % 3 and 2
            write(
                WindowResult(
                    number, 10 * number, 10 * number + 10, 9, 1,
                    xyxy[:n], np.array([2, 0])[:n], np.array([0.5, 0.25])[:n], np.array([-1, number])[:n],
                )
            )  # fmt: skip
    file = parquet.ParquetFile(tmp_path / "boxes.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [6, 2]
    table = file.read()
    assert table["t_us"].to_pylist() == [20, 20, 30, 30, 50, 50, 60, 60]
    assert table["class"].to_pylist() == [NAMES[2], NAMES[0]] * 4
    assert table["track_id"].to_pylist() == [None, 1, None, 2, None, 4, None, 5]
    assert table["y1"].to_pylist() == [3.0, 7.0] * 4


def test_memory_does_not_grow_with_the_recording(network, tmp_path):
    quick = replace(BINNING, frames=1, window_us=20_000)
    small = small_network(binning=quick, sensor_hw=(32, 32))
    events = moving_events(span_us=3_000_000, rate=400_000, sensor_hw=(32, 32))
    path = recorded(tmp_path / "long.dat", events, sensor_hw=(32, 32))
    del events
    peaks = []

    class Watch(SetClock):
        def now(self):
            peaks.append(tracemalloc.get_traced_memory()[0])
            return super().now()

    settings = side_by_side(cut=WindowCut(20_000, 20_000), stateless=False)
    tracemalloc.start()
    detect_stream(small, open_recording(path), settings, files_in(tmp_path), clock=Watch())
    tracemalloc.stop()
    # 19 MB of events went by in 150 windows; Python's and NumPy's memory beside torch's.
    half = len(peaks) // 2
    assert max(peaks[half:]) < max(peaks[len(peaks) // 10 : half]) + 1e6


def test_an_interrupted_stream_leaves_whole_files(network, tmp_path):
    path = recorded(tmp_path / "long.dat", moving_events(span_us=60_000_000, rate=20_000))
    settings = side_by_side(pace=PaceSettings(1.0))
    timer = threading.Timer(1.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    film = tmp_path / "film.gif"
    try:
        summary = detect_stream(network, open_recording(path), settings, files_in(tmp_path, film=film))
    finally:
        timer.cancel()
    assert summary["ended"] == "interrupted"
    assert 0 < summary["windows"] < 2_000
    assert len(lines_of(tmp_path)) == summary["windows"]
    assert len(read_labels(tmp_path / "boxes.npy")) == summary["boxes"]
    with Image.open(film) as pictures:
        assert pictures.n_frames > 0
    assert not list(tmp_path.glob(".*.partial"))


def test_a_file_that_is_cut_off_gives_the_boxes_before(network, tmp_path):
    whole = recorded(tmp_path / "whole.dat", moving_events())
    cut = tmp_path / "cut.dat"
    cut.write_bytes(whole.read_bytes()[:-240_003])
    summary = detect_stream(network, open_recording(cut), side_by_side(), files_in(tmp_path))
    assert summary["ended"] == "complete"
    assert summary["report"]["first_damage_byte"] is not None
    assert summary["events"] == 60_000 - 30_001
    strict = open_recording(cut, ReadOptions(damage="strict"))
    summary = detect_stream(network, strict, side_by_side(), files_in(tmp_path))
    assert "cut.dat" in summary["ended"]
    assert summary["windows"] == len(lines_of(tmp_path)) > 0


def test_nothing_readable_is_an_error_and_leaves_no_file(network, tmp_path, monkeypatch):
    path = recorded(tmp_path / "spot.dat", moving_events())
    recording = open_recording(path)

    def fail(**_):
        raise DamagedRecording(f"{path}: byte 0: nothing")
        yield

    monkeypatch.setattr(recording, "chunks", fail)
    with pytest.raises(DamagedRecording, match="byte 0"):
        detect_stream(network, recording, side_by_side(), files_in(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["spot.dat"]


def test_a_recording_without_events_gives_files_without_boxes(network, tmp_path):
    path = recorded(tmp_path / "empty.dat", moving_events()[:0])
    files = files_in(tmp_path, film=tmp_path / "film.gif", latency=tmp_path / "latency.png")
    options = ReadOptions(sensor_hw=SENSOR_HW)
    summary = detect_stream(network, open_recording(path, options), side_by_side(), files)
    assert (summary["windows"], summary["boxes"], summary["ended"]) == (0, 0, "complete")
    assert lines_of(tmp_path) == []
    assert len(read_labels(tmp_path / "boxes.npy")) == 0
    assert all(path.is_file() for path in files.all())


def test_an_empty_file_is_refused(tmp_path):
    empty = tmp_path / "empty.raw"
    empty.write_bytes(b"")
    with pytest.raises(EventsError, match=r"empty\.raw"):
        open_recording(empty)


def test_another_sensor_is_refused_or_brought_to_the_frames(network, tmp_path):
    large = moving_events(sensor_hw=(96, 128))
    path = recorded(tmp_path / "large.dat", large, sensor_hw=(96, 128))
    with pytest.raises(RunError, match=r"sensor has 96 x 128 .* trained on 48 x 64; .*--rescale"):
        detect_stream(network, open_recording(path), side_by_side(), files_in(tmp_path))
    detect_stream(network, open_recording(path), side_by_side(rescale=True), files_in(tmp_path))
    scaled = lines_of(tmp_path)
    halved = large.copy()
    halved["x"] //= 2
    halved["y"] //= 2
    small = recorded(tmp_path / "small.dat", halved)
    detect_stream(network, open_recording(small), side_by_side(), files_in(tmp_path))
    for line, expected in zip(scaled, lines_of(tmp_path), strict=True):
        np.testing.assert_allclose(
            [box["xyxy"] for box in line["boxes"]],
            2 * np.array([box["xyxy"] for box in expected["boxes"]]),
            atol=0.02,
        )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("boxes.xml", r"no boxes are written as '\.xml'; expected \.csv"),
        ("boxes", "no boxes are written as 'no suffix'"),
        ("summary.json", "no boxes are written as"),
    ],
)
def test_box_files_of_an_unknown_kind(network, file, tmp_path, name, words):
    files = StreamFiles((tmp_path / name,), tmp_path / "summary.json")
    with pytest.raises(ExperimentError, match=words):
        detect_stream(network, open_recording(file), side_by_side(), files)


def test_nothing_is_overwritten_by_mistake(network, tmp_path):
    path = recorded(tmp_path / "boxes.csv", moving_events(span_us=1_000))
    before = path.read_bytes()
    with pytest.raises(ExperimentError, match="would overwrite the recording itself"):
        detect_stream(network, open_recording(path), side_by_side(), files_in(tmp_path))
    assert path.read_bytes() == before
    film = StreamFiles((tmp_path / "a.csv", tmp_path / "a.csv"), tmp_path / "summary.json")
    with pytest.raises(ExperimentError, match="would overwrite another file of this command"):
        detect_stream(network, open_recording(path), side_by_side(), film)
    with pytest.raises(
        ExperimentError, match=r"film\.avi: no films are written as '\.avi'; expected \.gif or"
    ):
        files_in(tmp_path, film=tmp_path / "film.avi").check(path)


def test_windows_that_overlap_and_carried_state_exclude_each_other():
    cut = WindowCut(20_000, 50_000)
    with pytest.raises(ExperimentError, match=r"overlap.*; add --stateless, or make windows as long"):
        side_by_side(cut=cut, stateless=False)
    assert side_by_side(cut=cut).cut.overlapping


def test_which_windows_are_taken(network):
    assert choose_cut(network, rate_hz=None, window_us=None, events=None) == WindowCut(30_000, 30_000)
    assert choose_cut(network, rate_hz=50, window_us=20_000, events=None) == WindowCut(20_000, 20_000)
    assert choose_cut(network, rate_hz=100, window_us=None, events=None) == WindowCut(10_000, 30_000)
    assert choose_cut(network, rate_hz=None, window_us=None, events=9) == WindowCut(events=9)
    with pytest.raises(ExperimentError, match="leave out --rate-hz and --window-us"):
        choose_cut(network, rate_hz=5, window_us=None, events=9)
    with pytest.raises(ExperimentError, match="--rate-hz: found 0"):
        choose_cut(network, rate_hz=0, window_us=None, events=None)
