"""Recordings of handwritten digits: where they lie, what is in them, and that they never change."""

from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from events.datasets.registry import list_samples
from events.errors import ConfigError, EventsError
from events.readers.registry import open_recording
from events.recording import EventDigest
from events.synth.digits import (
    CLASS_NAMES,
    MOST_PER_CLASS,
    DigitSettings,
    log_picture,
    picture_order,
    record_digit,
    recording_path,
    write_digits,
)

# A tenth of the default length, so that the tests are quick.
SHORT = DigitSettings(per_class=2, duration_us=30_000)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.aedat"))
    }


def test_one_worker_and_two_write_the_same_bytes_in_the_layout_of_cifar10_dvs(tmp_path):
    seen = []
    write_digits(tmp_path / "serial", SHORT, progress=lambda done, total: seen.append((done, total)))
    write_digits(tmp_path / "parallel", SHORT, workers=2)
    serial = digests(tmp_path / "serial")
    assert serial == digests(tmp_path / "parallel")
    assert sorted(serial) == sorted(
        f"{name}/digits_{name}_{n}.aedat" for name in CLASS_NAMES for n in range(2)
    )
    assert len(set(serial.values())) == 20
    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)


def test_the_data_set_is_found_with_its_classes_in_order(tmp_path):
    write_digits(tmp_path, SHORT)
    listing = list_samples("dvs-cifar10", tmp_path)
    assert listing.class_names == CLASS_NAMES
    assert len(listing.samples) == 20
    assert not [problem for problem in listing.problems if "json" in problem or "extra" in problem]


def test_what_is_written_is_what_was_recorded(tmp_path):
    write_digits(tmp_path, replace(SHORT, per_class=1))
    recording = open_recording(tmp_path / recording_path(4, 0))
    assert recording.format == "aedat2"
    assert recording.sensor_hw == (128, 128)
    expected = record_digit(4, 0, SHORT)
    found = recording.read()
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(found[name], expected[name])
    assert not recording.report.damaged


def test_the_events_of_a_seed_never_change():
    digest = EventDigest()
    digest.update(record_digit(3, 1, SHORT))
    # Established when RECORDING_VERSION 1 was made; raise that number wherever this must change.
    assert digest.as_dict() == {
        "events": 38083,
        "t_first_us": 1,
        "t_last_us": 29998,
        "on": 19192,
        "t": "b1e9db7fbe6bf679",
        "x": "b05ccf61fbac2cc6",
        "y": "666561b9c0701d40",
        "p": "7b0dcbcc194ec378",
    }


def test_a_repeated_call_writes_only_what_is_missing(tmp_path):
    write_digits(tmp_path, replace(SHORT, per_class=1))
    first = digests(tmp_path)
    kept, lost = tmp_path / recording_path(0, 0), tmp_path / recording_path(7, 0)
    kept.write_bytes(b"not touched")
    lost.unlink()
    seen = []
    write_digits(tmp_path, SHORT, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (9, 20)
    assert kept.read_bytes() == b"not touched"
    assert digests(tmp_path)[recording_path(7, 0)] == first[recording_path(7, 0)]
    assert len(digests(tmp_path)) == 20


def test_other_settings_are_refused_by_name(tmp_path):
    write_digits(tmp_path, replace(SHORT, per_class=1))
    with pytest.raises(
        ConfigError, match=r"made with other settings \(seed is 0, asked for 5\); choose another"
    ):
        write_digits(tmp_path, replace(SHORT, seed=5))
    write_digits(tmp_path, SHORT)
    with pytest.raises(ConfigError, match="per_class is 2, asked for 1"):
        write_digits(tmp_path, replace(SHORT, per_class=1))


def test_no_picture_is_recorded_twice():
    for label in range(10):
        order = picture_order(label, seed=0)
        assert len(order) >= MOST_PER_CLASS
        assert len(set(order.tolist())) == len(order)
    assert picture_order(0, seed=0).tolist() != picture_order(0, seed=1).tolist()


@pytest.mark.parametrize("per_class", [0, 175])
def test_more_recordings_than_pictures_are_refused(per_class):
    with pytest.raises(
        ConfigError, match=rf"per_class must be from 1 to 174, got {per_class}: every recording"
    ):
        DigitSettings(per_class=per_class)


def test_the_picture_is_upright_and_in_the_middle():
    image = np.zeros((8, 8))
    image[0, 0] = 16  # top left of the digit
    picture = log_picture(image, DigitSettings())
    assert picture.shape == (137, 137)  # 128, twice the radius of 4, and one more to interpolate
    assert picture.dtype == np.float32
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    # 10 cells of 12 pixels from (137 - 120) // 2 = 8; the digit's first cell is the second: middle at 8 + 18.
    assert (row, column) == pytest.approx((26, 26), abs=1)
    assert picture.max() == pytest.approx(np.log(4.0), abs=0.1)
    assert picture[80:, 80:].max() == 0


def test_a_recorded_one_is_tall_and_narrow():
    events = record_digit(1, 0, SHORT)
    assert events["y"].std() > 1.2 * events["x"].std()


def test_default_recordings_have_the_promised_size():
    counts = [len(record_digit(label, 0, DigitSettings())) for label in range(10)]
    assert 30_000 < np.mean(counts) < 60_000
    assert min(counts) > 15_000


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EventsError, match=r"file.*: cannot be written \(Not a directory\)"):
        write_digits(tmp_path / "file" / "digits", SHORT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"duration_us": 1_500}, r"duration_us \(1500\) must be a multiple of step_us \(1000\)"),
        ({"contrast": 1.0}, "contrast must be above 1, got 1.0"),
        ({"digit_px": 0}, "digit_px must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_used(wrong, message):
    with pytest.raises(ConfigError, match=message):
        DigitSettings(**wrong)
