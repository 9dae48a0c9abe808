"""MATLAB files as those of ASL-DVS: the shared suite, with files made by SciPy alone, and damage."""

import io

import numpy as np
import pytest
from scipy.io import savemat
from suites.reader_suite import ReaderSuite

from events.errors import DamagedRecording, UnknownFormat
from events.readers.registry import open_recording
from events.recording import ReadOptions


def mat_file(compressed=True, **variables) -> bytes:
    stream = io.BytesIO()
    savemat(stream, variables, do_compression=compressed, oned_as="column")
    return stream.getvalue()


def columns(events, height=180) -> dict[str, np.ndarray]:
    y = height - 1 - events["y"].astype(np.float64)
    return {
        "ts": events["t"].astype(np.float64),
        "x": events["x"].astype(np.float64),
        "y": y,
        "pol": events["p"],
    }


class TestAslDvs(ReaderSuite):
    format = "mat"
    sensor_hw = (180, 240)

    def encode(self, events):
        return mat_file(**columns(events))

    def test_events_outside_the_sensor_are_left_out_and_counted(self, tmp_path):
        """A lower sensor moves the bottom, from which y is counted."""
        events = self.some_events(1000)
        (tmp_path / "a").write_bytes(self.encode(events))
        recording = open_recording(tmp_path / "a", ReadOptions(sensor_hw=(100, 240)))
        inside = events[events["y"] >= 80]
        found = recording.read()
        np.testing.assert_array_equal(found["y"], inside["y"] - 80)
        assert recording.report.out_of_sensor == 1000 - len(inside)
        with pytest.raises(
            DamagedRecording, match=r"byte 128: .* sensor of 100x240; read with damage 'skip'"
        ):
            open_recording(tmp_path / "a", ReadOptions(sensor_hw=(100, 240), damage="strict")).read()


class TestNotCompressed(TestAslDvs):
    def encode(self, events):
        return mat_file(compressed=False, **columns(events))


class TestSeconds(TestAslDvs):
    def encode(self, events):
        variables = columns(events)
        return mat_file(**variables | {"ts": events["t"] / 1e6})

    def some_events(self, n, seed=0):
        events = super().some_events(n, seed)
        events["t"][0] = 1  # some time is no whole second
        return events


def test_what_is_assumed_is_said(tmp_path):
    (tmp_path / "a").write_bytes(mat_file(**columns(TestAslDvs().some_events(10))))
    recording = open_recording(tmp_path / "a")
    assert recording.sensor_hw == (180, 240)
    assert recording.facts["note"] == "sensor size not in the file: that of a DAVIS240C"
    assert "flipped" in recording.facts["origin"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"y": np.zeros(9)},
            DamagedRecording,
            r"columns of different shapes \(ts 10x1, x 10x1, y 9x1, pol 10x1",
        ),
        ({"y": np.zeros((5, 2))}, DamagedRecording, "columns of different shapes"),
        (
            {"x": "ten letter"},
            DamagedRecording,
            "x is of class char; expected real numbers",
        ),
        ({"ts": np.zeros((10, 1), object)}, DamagedRecording, "ts is of class cell; expected real numbers"),
        ({"ts": np.zeros(10) + 1j}, DamagedRecording, "ts is of class complex; expected real numbers"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, change, error, message):
    (tmp_path / "a").write_bytes(mat_file(**columns(TestAslDvs().some_events(10)) | change))
    with pytest.raises(error, match=message) as caught:
        open_recording(tmp_path / "a").read()
    assert "\n" not in str(caught.value)


def test_other_variables_are_named(tmp_path):
    (tmp_path / "a").write_bytes(mat_file(out1=np.zeros((4, 4))))
    with pytest.raises(UnknownFormat, match="with the variables out1; expected ts, x, y and pol"):
        open_recording(tmp_path / "a")


def test_noise_after_the_header_is_an_error(tmp_path):
    data = mat_file(**columns(TestAslDvs().some_events(300)))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        noisy = bytearray(data)
        noisy[rng.integers(128, len(data))] ^= 1 << rng.integers(0, 8)
        (tmp_path / "a").write_bytes(noisy)
        try:
            open_recording(tmp_path / "a", ReadOptions(format="mat")).read()
        except (DamagedRecording, UnknownFormat) as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > 40
