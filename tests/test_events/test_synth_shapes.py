"""Recordings of moving shapes: exact boxes, what is seen of an object, and that they never change."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from events.errors import ConfigError
from events.labels.formats import read_labels
from events.readers.registry import open_recording
from events.recording import EventDigest
from events.synth.outlines import CLASS_NAMES, EDGES, apothem, distance_outside, half_extents
from events.synth.scene import Scene
from events.synth.sensor import SensorSettings, draw_pixels, record_light
from events.synth.shapes import (
    SETTINGS_FILE,
    ShapeSettings,
    draw_scene,
    label_recording,
    labels_path,
    record_shapes,
    recording_path,
    settings_of,
    write_shapes,
)

# A fraction of the default length and size, so that the tests are quick.
SHORT = ShapeSettings(
    recordings=4, duration_us=60_000, label_us=20_000, sensor=SensorSettings(sensor_hw=(40, 52))
)
QUIET = SensorSettings(sensor_hw=(96, 128), noise_rate_hz=0, leak_rate_hz=0)


def scene_of(*objects, hw=(60, 80)):
    """Objects that stand still, each given by class, x, y, size and angle."""
    columns = np.array(objects, float).T
    zero = np.zeros(len(objects))
    moving = "semi_x semi_y tilt phase rate swell swell_phase swell_rate turn_rate"
    still = dict.fromkeys(moving.split(), zero)
    return Scene(
        sensor_hw=hw, class_id=columns[0].astype(int), light=zero + 2, x=columns[1], y=columns[2],
        size_px=columns[3], angle=columns[4], **still,
    )  # fmt: skip


def digests(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".dat", ".npy")]
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("edges", EDGES.values())
@pytest.mark.parametrize("angle", [0.0, 0.4, 2.5])
def test_outlines_have_one_area_and_fill_their_extent(edges, angle):
    # Counted on a fine grid, which knows nothing of the formulas for area and extent.
    side = np.arange(-20, 20, 0.02) + 0.01
    x, y = np.meshgrid(side, side)
    within = distance_outside(edges, 20.0, angle, x, y) <= 0
    assert within.sum() * 0.02**2 == pytest.approx(np.pi * 10**2, rel=2e-3)
    found = [-x[within].min(), -y[within].min(), x[within].max(), y[within].max()]
    np.testing.assert_allclose(half_extents(edges, np.float64(20), np.float64(angle)), found, atol=0.06)


def test_boxes_worked_out_by_hand():
    boxes = scene_of((0, 30, 20, 10, 0.3), (1, 50, 40, 10, 0), (1, 20, 40, 10, np.pi / 4)).boxes_at(5_000)
    half = 10 * np.sqrt(np.pi) / 4  # a square of the circle's area
    diagonal = half * np.sqrt(2)
    expected = [
        [25, 15, 35, 25],
        [50 - half, 40 - half, 50 + half, 40 + half],
        [20 - diagonal, 40 - diagonal, 20 + diagonal, 40 + diagonal],
    ]
    np.testing.assert_allclose(boxes.xyxy, expected, rtol=1e-12)
    assert boxes.class_id.tolist() == [0, 1, 1]
    assert boxes.track_id.tolist() == [0, 1, 2]
    assert (boxes.visible_share == 1).all()


def test_a_triangle_at_rest_stands_on_its_edge():
    box = scene_of((2, 40, 30, 20, 0)).boxes_at(0).xyxy[0]
    inner = float(apothem(3, np.float64(20)))
    np.testing.assert_allclose(box[[1, 3]], [30 - 2 * inner, 30 + inner])  # corner above, edge below
    np.testing.assert_allclose(box[[0, 2]], [40 - np.sqrt(3) * inner, 40 + np.sqrt(3) * inner])


def test_what_is_seen_of_objects_cut_by_the_edge_and_hidden_by_a_nearer_one():
    cut = scene_of((0, 0, 30, 20, 0), (0, 80, 60, 20, 0)).boxes_at(0)
    np.testing.assert_allclose(cut.visible_share, [0.5, 0.25], atol=0.01)
    assert cut.xyxy[0].tolist() == [-10, 20, 10, 40]
    # The nearer square has its left edge at the middle of the farther one, and hides nothing of it else.
    hidden = scene_of((1, 30, 30, 20, 0), (1, 30 + 10 * np.sqrt(np.pi) / 2, 30, 20, 0)).boxes_at(0)
    np.testing.assert_allclose(hidden.visible_share, [0.5, 1], atol=0.02)
    assert scene_of((0, 30, 30, 10, 0), (1, 30, 30, 20, 0)).boxes_at(0).visible_share.tolist() == [0, 1]


def test_light_covers_the_box_and_nothing_else():
    scene = scene_of((1, 30, 20, 12, 0.3), (2, 60, 40, 16, 1.0))
    light = next(scene.log_light(np.array([0])))[0]
    assert light.max() == pytest.approx(np.log(2), abs=1e-4)
    ys, xs = np.nonzero(light)
    for own, box in ((xs < 45, scene.boxes_at(0).xyxy[0]), (xs >= 45, scene.boxes_at(0).xyxy[1])):
        found = [xs[own].min(), ys[own].min(), xs[own].max() + 1, ys[own].max() + 1]
        # A pixel belongs to an edge up to half a pixel away, corners stretch that a little.
        np.testing.assert_allclose(found, box, atol=1.6)
    # All of an object's light, pixels counted by how much of them it covers, is its area.
    covered = (np.exp(light) - 1)[:, :45].sum()
    assert covered == pytest.approx(np.pi * 6**2, rel=0.01)


def test_speeds_sizes_and_places_are_as_asked():
    settings = replace(ShapeSettings(), objects=(4, 4))
    times = np.arange(0, 60_000_000, 10_000)
    for number in range(5):
        scene = draw_scene(number, settings)
        assert len(scene) == 4
        assert ((scene.size_px >= 0.18 * 96) & (scene.size_px <= 0.4 * 96)).all()
        assert ((scene.x >= 0) & (scene.x <= 128) & (scene.y >= 0) & (scene.y <= 96)).all()
        places = np.array([[pose.x, pose.y] for pose in map(scene.poses_at, times.tolist())])  # [N, 2, M]
        steps_px = np.hypot(*np.diff(places, axis=0).transpose(1, 0, 2))
        speed = np.sqrt((steps_px**2).mean(axis=0)) / 0.01 / 96
        assert ((speed > 0.2 * 0.9) & (speed < 1.2 * 1.1)).all()  # a minute is no whole number of rounds
        assert steps_px.max() < 2 * 1.2 * 96 * 0.01  # no jump


def test_events_lie_on_the_outlines_and_nowhere_else():
    settings = replace(ShapeSettings(), objects=(1, 1), duration_us=200_000, sensor=QUIET)
    scene, events = draw_scene(4, settings), record_shapes(4, settings)
    assert len(events) > 500
    for event in events[::7]:
        pose = scene.poses_at(float(event["t"]))
        edges = EDGES[CLASS_NAMES[scene.class_id[0]]]
        dx, dy = event["x"] + 0.5 - pose.x[0], event["y"] + 0.5 - pose.y[0]
        assert abs(distance_outside(edges, pose.size_px[0], pose.angle[0], dx, dy)) < 0.8


def test_the_events_of_a_window_end_in_its_boxes():
    """Half a millisecond before a label, all events of what is seen lie within its boxes, to a pixel."""
    settings = replace(ShapeSettings(), duration_us=500_000, sensor=QUIET)
    found = 0
    for number in range(4):
        events, scene = record_shapes(number, settings), draw_scene(number, settings)
        for t_us in settings.label_times_us.tolist():
            late = events[(events["t"] >= t_us - 500) & (events["t"] < t_us)]
            x, y = late["x"][:, None] + 0.5, late["y"][:, None] + 0.5
            x0, y0, x1, y1 = scene.boxes_at(t_us).xyxy.T
            inside = (x > x0 - 1) & (x < x1 + 1) & (y > y0 - 1) & (y < y1 + 1)
            assert inside.any(axis=1).all()
            found += len(late)
    assert found > 200


def test_labels_are_the_boxes_cut_at_the_edge():
    settings = replace(ShapeSettings(), least_visible=0.6)
    times, ignored = set(), 0
    for number in range(6):
        labels, scene = label_recording(number, settings), draw_scene(number, settings)
        for row in range(len(labels)):
            boxes = scene.boxes_at(int(labels.t[row]))
            track = int(labels.track_id[row])
            exact = np.clip(boxes.xyxy[track], 0, [128, 96, 128, 96])
            np.testing.assert_allclose(labels.xyxy[row], exact, atol=1e-4)
            assert labels.class_id[row] == scene.class_id[track]
            assert labels.ignore[row] == (boxes.visible_share[track] < 0.6)
            assert boxes.visible_share[track] > 0
        times |= set(labels.t.tolist())
        ignored += labels.ignore.sum()
        assert labels.covers(settings.label_times_us).all()
    assert times == set(range(50_000, 2_500_001, 50_000))
    assert ignored > 10


def test_one_worker_and_two_write_the_same_bytes_in_the_layout_of_gen1(tmp_path):
    seen = []
    write_shapes(tmp_path / "serial", SHORT, progress=lambda done, total: seen.append((done, total)))
    write_shapes(tmp_path / "parallel", SHORT, workers=2)
    serial = digests(tmp_path / "serial")
    assert serial == digests(tmp_path / "parallel")
    assert sorted(serial) == [
        "test/shapes_0001_bbox.npy", "test/shapes_0001_td.dat", "train/shapes_0000_bbox.npy",
        "train/shapes_0000_td.dat", "train/shapes_0003_bbox.npy", "train/shapes_0003_td.dat",
        "val/shapes_0002_bbox.npy", "val/shapes_0002_td.dat",
    ]  # fmt: skip
    assert seen == [(done, 4) for done in range(5)]


def test_what_is_written_is_what_was_recorded(tmp_path):
    settings = replace(SHORT, least_visible=0.9, recordings=8)
    write_shapes(tmp_path, settings)
    assert settings_of(tmp_path) == settings
    hidden = 0
    for number in range(8):
        recording = open_recording(tmp_path / recording_path(number))
        assert (recording.format, recording.sensor_hw) == ("dat", (40, 52))
        expected = record_shapes(number, settings)
        found = recording.read()
        for name in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(found[name], expected[name])
        labels = label_recording(number, settings)
        read = read_labels(tmp_path / labels_path(number))
        kept = labels.where(~labels.ignore)
        hidden += len(labels) - len(kept)
        for name in ("t", "class_id", "track_id", "score"):
            np.testing.assert_array_equal(getattr(read, name), getattr(kept, name))
        np.testing.assert_allclose(read.xyxy, kept.xyxy, atol=1e-5)
    assert hidden > 0


def test_the_recordings_of_a_seed_never_change():
    settings = replace(SHORT, duration_us=200_000, objects=(3, 3))
    digest = EventDigest()
    digest.update(record_shapes(1, settings))
    # Established when RECORDING_VERSION 1 was made; raise that number wherever this must change.
    assert digest.as_dict() == {
        "events": 885,
        "t_first_us": 80,
        "t_last_us": 199802,
        "on": 401,
        "t": "4dd696d6a219728a",
        "x": "99dafab9051211a1",
        "y": "bb2e918b1f62b7ad",
        "p": "798a79231c523018",
    }
    last = label_recording(1, settings).at(200_000)
    assert last.class_id.tolist() == [0, 2, 0]
    expected = [[6.71, 27.06, 19.05, 39.40], [0, 14.06, 13.86, 29.04], [2.62, 4.61, 12.91, 14.89]]
    np.testing.assert_allclose(last.xyxy, expected, atol=0.006)


def test_a_repeated_call_writes_only_what_is_missing_and_adds(tmp_path):
    write_shapes(tmp_path, replace(SHORT, recordings=3))
    first = digests(tmp_path)
    kept, lost = tmp_path / recording_path(0), tmp_path / recording_path(2)
    kept.write_bytes(b"not touched")
    lost.unlink()
    seen = []
    write_shapes(tmp_path, SHORT, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (2, 4)
    assert kept.read_bytes() == b"not touched"
    assert digests(tmp_path)[recording_path(2)] == first[recording_path(2)]
    assert len(digests(tmp_path)) == 8


def test_other_settings_and_other_folders_are_refused(tmp_path):
    write_shapes(tmp_path / "shapes", replace(SHORT, recordings=2))
    with pytest.raises(ConfigError, match=r"made with other settings \(seed is 0, asked for 5\); choose"):
        write_shapes(tmp_path / "shapes", replace(SHORT, seed=5))
    with pytest.raises(ConfigError, match="recordings is 2, asked for 1"):
        write_shapes(tmp_path / "shapes", replace(SHORT, recordings=1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"mine: holds thesis.txt and no .shapes.json: made by something"):
        write_shapes(tmp_path / "mine", SHORT)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_settings_of_another_folder_or_version(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read as settings of shapes"):
        settings_of(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text('{"recording_version": 99}')
    with pytest.raises(ConfigError, match="is of version 99, expected 1; make it again"):
        settings_of(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recordings": 0}, "recordings must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"duration_us": 1_500}, r"duration_us \(1500\) must be a multiple of step_us \(1000\)"),
        ({"label_us": 0}, "label_us must be from 1 to duration_us 2500000, got 0"),
        ({"objects": (0, 3)}, "objects must be two numbers in order, not below 1; got 0, 3"),
        ({"size_share": (0.4, 0.2)}, "size_share must be two numbers in order"),
        ({"speed_share": (0.0, 1.0)}, "size_share and speed_share must be above 0"),
        ({"light": (0.5, 2.0)}, "light must be two numbers in order, not below 1; got 0.5, 2.0"),
        ({"least_visible": 0.0}, "least_visible must be above 0 and at most 1, got 0.0"),
    ],
)
def test_shapes_that_cannot_be_made(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ShapeSettings(**wrong)


def test_pictures_that_do_not_fit_the_sensor_are_refused():
    sensor = SensorSettings(sensor_hw=(4, 5))
    rng = np.random.default_rng(0)

    def record(pictures):
        return record_light(
            pictures, steps=2, step_us=10, settings=sensor, pixels=draw_pixels(sensor, rng), rng=rng
        )

    good = np.zeros((1, 4, 5), np.float32)
    assert len(record([good] * 3)) == 0
    assert len(record([np.zeros((3, 4, 5), np.float32)])) == 0
    with pytest.raises(ConfigError, match="2 steps need a picture before each and one after, 3; got 2"):
        record([good] * 2)
    with pytest.raises(ConfigError, match="3; got more"):
        record([good] * 9)
    with pytest.raises(ConfigError, match=r"picture 1 is of \(5, 4\), the sensor of \(4, 5\)"):
        record([good, np.zeros((1, 5, 4), np.float32), good])
