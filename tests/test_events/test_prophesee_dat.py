"""Prophesee DAT: both versions, files without a size or a header, and damage."""

import struct

import numpy as np
import pytest
from suites.reader_suite import ReaderSuite, random_events, read_chunks

from events.errors import ConfigError, DamagedRecording, UnknownFormat
from events.readers.registry import identify, open_recording
from events.recording import ReadOptions
from events.writers.registry import write_recording

WRAP_US = 2**32
HEADER = b"% Data file containing CD events.\n% Version 2\n% Height 720\n% Width 1280\n\x0c\x08"


def record(t, x, y, p):
    return struct.pack("<II", t % WRAP_US, p << 28 | y << 14 | x)


def encode_events(events):
    return b"".join(record(int(e["t"]), int(e["x"]), int(e["y"]), int(e["p"])) for e in events)


def times_file(path, times, header=HEADER):
    path.write_bytes(header + b"".join(record(t, i % 100, 7, i % 2) for i, t in enumerate(times)))
    return path


class TestDat(ReaderSuite):
    format = "dat"
    sensor_hw = (720, 1280)
    record_bytes = 8
    span_us = 2**31

    def encode(self, events):
        return HEADER + encode_events(events)


class TestDatWithoutSize(ReaderSuite):
    """N-Cars: type 0x00, no width or height."""

    format = "dat"
    sensor_hw = (100, 120)
    record_bytes = 8

    def encode(self, events):
        return b"% Data file containing N9Event2dE events.\n% Version 2\n\x00\x08" + encode_events(events)


class TestDatVersion1(ReaderSuite):
    """No header at all: 9 bits of x, 8 of y."""

    format = "dat"
    sensor_hw = (240, 304)
    record_bytes = 8

    def encode(self, events):
        return b"".join(
            struct.pack("<II", e["t"], int(e["p"]) << 17 | int(e["y"]) << 9 | int(e["x"])) for e in events
        )


def test_version_1_with_a_header(tmp_path):
    data = b"% Date 2015-01-01\n\x00\x08" + struct.pack("<II", 5, 1 << 17 | 200 << 9 | 300)
    (tmp_path / "a").write_bytes(data)
    recording = open_recording(tmp_path / "a", ReadOptions(format="dat"))
    assert recording.read().tolist() == [(5, 300, 200, True)]
    assert (recording.sensor_hw, recording.facts["version"]) == ((201, 301), "1")


def test_size_type_and_date_are_facts(tmp_path):
    recording = open_recording(times_file(tmp_path / "a", range(9), HEADER[:-2] + b"% Date today\n\x0c\x08"))
    assert recording.sensor_hw == (720, 1280)
    facts = recording.facts
    assert (facts["date"], facts["event_type"], facts["version"], facts["data_type"]) == (
        "today",
        "EventCD",
        "2",
        "CD",
    )


def test_header_that_ends_itself(tmp_path):
    header = HEADER[:-2] + b"% end\n\x0c\x08"
    path = times_file(tmp_path / "a", [0x0A2025] * 3, header)  # each record begins like a header line
    assert open_recording(path).read()["t"].tolist() == [0x0A2025] * 3


@pytest.mark.parametrize("kind", [b"\x0e\x08", b"\x07\x08", b"\x0c\x10", b"\x0c%"])
def test_other_types_and_lengths_are_refused(tmp_path, kind):
    (tmp_path / "a").write_bytes(HEADER[:-2] + kind + bytes(16))
    with pytest.raises(
        UnknownFormat, match=r"a: byte 72: event type 0x0\w \(.*expected type 0x00 or 0x0c of 8"
    ):
        open_recording(tmp_path / "a")


def test_half_a_header(tmp_path):
    path = tmp_path / "a"
    for size in range(40, len(HEADER)):
        path.write_bytes(HEADER[:size])
        recording = open_recording(path)
        assert recording.format == "dat"
        assert len(recording.read()) == 0
        if HEADER[size - 1] != ord("\n"):
            assert recording.report.first_damage_byte == size
            assert recording.report.notes[-1] == f"byte {size}: the file ends inside its header"
        with pytest.raises(DamagedRecording, match=f"byte {size}: the file ends inside its header"):
            open_recording(path, ReadOptions(damage="strict")).read()


def test_empty_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(UnknownFormat, match="is empty"):
        open_recording(tmp_path / "a")


def test_header_only(tmp_path):
    (tmp_path / "a").write_bytes(HEADER)
    recording = open_recording(tmp_path / "a")
    assert len(recording.read()) == 0
    assert recording.report.notes == ["no events: no whole record in the file"]
    assert not recording.report.damaged


def test_wrap_and_small_backward_step(tmp_path):
    """A fall of more than 2^31 is a wrap; one of 2 ms is kept: no 71 minutes are added."""
    stored = [WRAP_US - 10_000, WRAP_US - 5000, WRAP_US - 7000, 3, 100]
    recording = open_recording(times_file(tmp_path / "a", stored))
    assert recording.read()["t"].tolist() == [*stored[:3], WRAP_US + 3, WRAP_US + 100]
    report = recording.report
    assert (report.wraps, report.backward_steps, report.largest_backward_us) == (1, 1, 2000)
    assert not report.damaged


def test_overwritten_bytes(tmp_path):
    """100 bytes of 0xFE: 12 records cannot be events; the time of one more is wrong, and is no wrap."""
    events = random_events(3, 1000, sensor_hw=(720, 1280), span_us=10_000)
    data = bytearray(HEADER + encode_events(events))
    at = len(HEADER) + 8 * 400
    data[at : at + 100] = b"\xfe" * 100
    (tmp_path / "a").write_bytes(data)
    found, report = read_chunks(tmp_path / "a", ReadOptions(damage="skip"), 77)
    expected = np.concatenate([events[:400], events[412:]])
    expected["t"][400] = 0xFEFEFEFE
    np.testing.assert_array_equal(found, expected)
    assert (report["out_of_sensor"], report["backward_steps"], report["wraps"]) == (12, 1, 0)
    assert report["first_damage_byte"] == at
    found, report = read_chunks(tmp_path / "a", ReadOptions(damage="salvage"), 77)
    np.testing.assert_array_equal(found, np.concatenate([events[:400], events[413:]]))
    assert (report["out_of_sensor"] * 8 + report["bytes_skipped"], report["first_damage_byte"]) == (
        13 * 8,
        at,
    )
    with pytest.raises(DamagedRecording, match=f"byte {at}: record"):
        open_recording(tmp_path / "a", ReadOptions(damage="strict")).read()


def test_missing_bytes_are_salvaged(tmp_path):
    events = random_events(4, 1000, sensor_hw=(720, 1280), span_us=10_000)
    data = HEADER + encode_events(events)
    cut = len(HEADER) + 8 * 500
    (tmp_path / "a").write_bytes(data[: cut + 3] + data[cut + 8 :])
    found, report = read_chunks(tmp_path / "a", ReadOptions(damage="salvage"), 10_000)
    np.testing.assert_array_equal(found, np.concatenate([events[:500], events[501:]]))
    assert (report["bytes_skipped"], report["first_damage_byte"]) == (3, cut)


def test_x_beyond_the_width_of_the_header(tmp_path):
    data = (
        HEADER + record(1, 1279, 719, 1) + record(2, 1280, 0, 1) + record(3, 0, 720, 0) + record(4, 1, 1, 0)
    )
    (tmp_path / "a").write_bytes(data)
    recording = open_recording(tmp_path / "a")
    assert recording.read()["t"].tolist() == [1, 4]
    assert (recording.report.out_of_sensor, recording.report.first_damage_byte) == (2, len(HEADER) + 8)


def test_written_header_says_what_the_file_is(tmp_path):
    events = random_events(0, 10, sensor_hw=(720, 1280), span_us=100)
    write_recording(tmp_path / "a", events, format="dat", sensor_hw=(720, 1280))
    assert (tmp_path / "a").read_bytes().startswith(b"% Data file containing CD events.\n% Version 2\n")
    assert identify(tmp_path / "a") == "dat"
    assert open_recording(tmp_path / "a").sensor_hw == (720, 1280)
    with pytest.raises(ConfigError, match="a sensor of 20000x10 does not fit DAT"):
        write_recording(tmp_path / "b", events, format="dat", sensor_hw=(20000, 10))


def test_written_times_wrap(tmp_path):
    events = random_events(0, 3, sensor_hw=(720, 1280), span_us=100)
    events["t"] = [WRAP_US - 5, WRAP_US + 5, WRAP_US + 2**31]
    write_recording(tmp_path / "a", events, format="dat", sensor_hw=(720, 1280))
    np.testing.assert_array_equal(open_recording(tmp_path / "a").read(), events)
    events["t"][2] += 2**31
    with pytest.raises(ConfigError, match="do not fit DAT"):
        write_recording(tmp_path / "b", events, format="dat", sensor_hw=(720, 1280))
