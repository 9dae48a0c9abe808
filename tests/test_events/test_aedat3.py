"""AEDAT 3: the suite with packets made by hand, what may stand between packets, and damage."""

import struct

import numpy as np
import pytest
from suites.bookmarks import assert_goes_on
from suites.reader_suite import ReaderSuite, random_events

from events.errors import ConfigError, DamagedRecording, UnknownFormat
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.registry import write_recording

HEADER = (
    b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n"
    b"#Start-Time: 2016-12-08 11:13:39 (TZ+0100)\r\n#!END-HEADER\r\n"
)


def packet_header(*, kind=1, size=8, offset=4, overflow=0, capacity=None, number=0, valid=None) -> bytes:
    capacity = number if capacity is None else capacity
    valid = number if valid is None else valid
    return struct.pack("<hhiiiiii", kind, 1, size, offset, overflow, capacity, number, valid)


def polarity_event(event, *, valid=1) -> bytes:
    data = int(event["x"]) << 17 | int(event["y"]) << 2 | int(event["p"]) << 1 | valid
    return struct.pack("<Ii", data, int(event["t"]) % 2**31)


def polarity_packet(events, *, overflow=0, capacity=None) -> bytes:
    body = b"".join(map(polarity_event, events))
    return packet_header(overflow=overflow, capacity=capacity, number=len(events)) + body


def special_packet(kinds_and_times, overflow=0) -> bytes:
    body = b"".join(struct.pack("<Ii", 1 | kind << 1, time) for kind, time in kinds_and_times)
    return packet_header(kind=0, number=len(kinds_and_times), overflow=overflow) + body


def some_events(n=300, seed=0):
    return random_events(seed, n, sensor_hw=(128, 128), span_us=100_000)


def save(path, *parts, header=HEADER):
    path.write_bytes(header + b"".join(parts))
    return path


class TestAedat3(ReaderSuite):
    """One packet."""

    format = "aedat3"
    record_bytes = 8
    span_us = 2**31

    def encode(self, events):
        return HEADER + polarity_packet(events)


class TestAedat3ManyPackets(ReaderSuite):
    """Packets of 7, between them the other types, with and without events."""

    format = "aedat3"

    def encode(self, events):
        frame = packet_header(kind=2, size=36 + 64, offset=12, number=3) + bytes(300)
        imu = packet_header(kind=3, size=36, number=1) + bytes(36)
        parts = []
        for start in range(0, len(events), 7):
            parts += [polarity_packet(events[start : start + 7]), special_packet([(1, 5)]), frame, imu]
            parts.append(packet_header(number=0))
        return HEADER + b"".join(parts)


class TestAedat3Odd(ReaderSuite):
    """No camera name, and packets of types of odd length, so that no event is aligned."""

    format = "aedat3"
    sensor_hw = (128, 128)

    def encode(self, events):
        odd = packet_header(kind=101, size=7, number=1) + bytes(7)
        return HEADER + odd + b"".join(polarity_packet(part) + odd for part in np.array_split(events, 3))


def test_what_is_left_out_is_counted(tmp_path):
    events = some_events()
    frame = packet_header(kind=2, size=1_000_000, offset=12, number=1) + bytes(1_000_000)
    path = save(tmp_path / "a", polarity_packet(events[:100]), special_packet([(2, 7), (3, 9)]), frame)
    path.write_bytes(path.read_bytes() + polarity_packet(events[100:]))
    recording = open_recording(path, ReadOptions(damage="strict"))
    np.testing.assert_array_equal(recording.read(), events)
    report = recording.report
    assert (report.special_events, report.other_packets, report.damaged) == (2, 2, False)
    assert report.bytes_read == report.bytes_total
    assert recording.facts["source_1"] == "DVS128"
    assert recording.sensor_hw == (128, 128)


@pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
def test_events_marked_invalid_are_left_out_and_counted(tmp_path, damage):
    events = some_events(40)
    body = b"".join(polarity_event(event, valid=i % 4 != 0) for i, event in enumerate(events))
    path = save(tmp_path / "a", packet_header(number=40, valid=30), body)
    recording = open_recording(path, ReadOptions(damage=damage))
    np.testing.assert_array_equal(recording.read(), events[np.arange(40) % 4 != 0])
    assert (recording.report.invalid_events, recording.report.damaged) == (10, False)


def test_capacity_says_nothing_about_the_length(tmp_path):
    """Readers that trust it take the headers behind for events."""
    events = some_events(1000)
    parts = [polarity_packet(part, capacity=4096) for part in np.array_split(events, 7)]
    recording = open_recording(save(tmp_path / "a", *parts), ReadOptions(damage="strict"))
    np.testing.assert_array_equal(recording.read(), events)


def test_the_overflow_continues_the_clock(tmp_path):
    events = some_events(300)
    events["t"][100:] += 2**31
    events["t"][200:] += 2 * 2**31
    wraps = [special_packet([(0, 2**31 - 1)]), special_packet([(0, 2**31 - 1)], overflow=2)]
    path = save(
        tmp_path / "a",
        polarity_packet(events[:100]),
        wraps[0],
        polarity_packet(events[100:200], overflow=1),
        wraps[1],
        polarity_packet(events[200:], overflow=3),
    )
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    report = recording.report
    assert (report.wraps, report.special_events, report.backward_steps) == (3, 2, 0)


def test_times_beyond_31_bits_are_written_and_come_back(tmp_path):
    events = some_events(10_000)
    events["t"] += 5 * 2**31 - 50_000
    write_recording(tmp_path / "a", events, format="aedat3", sensor_hw=(128, 128))
    recording = open_recording(tmp_path / "a", ReadOptions(damage="strict"))
    np.testing.assert_array_equal(recording.read(), events)
    assert (recording.report.wraps, recording.report.special_events) == (1, 1)
    events["t"][0] = -1
    with pytest.raises(ConfigError, match=r"do not fit AEDAT 3.1, which holds 0 to"):
        write_recording(tmp_path / "a", events, format="aedat3", sensor_hw=(128, 128))


@pytest.mark.parametrize("sensor_hw", [(180, 240), (260, 346), (720, 1280), (99, 1)])
def test_the_sensor_comes_back(tmp_path, sensor_hw):
    write_recording(tmp_path / "a", some_events(0), format="aedat3", sensor_hw=sensor_hw)
    assert open_recording(tmp_path / "a").sensor_hw == sensor_hw


def test_unknown_camera_gets_the_smallest_sensor(tmp_path):
    events = some_events(50)
    path = save(tmp_path / "a", polarity_packet(events), header=HEADER.replace(b"DVS128", b"Other"))
    assert open_recording(path).sensor_hw == (events["y"].max() + 1, events["x"].max() + 1)


def test_version_3_0_counts_rows_from_the_bottom(tmp_path):
    events = some_events(200)
    flipped = events.copy()
    flipped["y"] = 127 - events["y"]
    path = save(tmp_path / "a", polarity_packet(flipped), header=b"#!AER-DAT3.0\r\n#Source 1: DVS128\r\n")
    np.testing.assert_array_equal(open_recording(path, ReadOptions(damage="strict")).read(), events)
    body = packet_header(number=1) + struct.pack("<Ii", 1 | 5 << 17 | 200 << 2, 9)
    path = save(tmp_path / "b", body, header=b"#!AER-DAT3.0\r\n#Source 1: DVS128\r\n")
    recording = open_recording(path)
    assert (len(recording.read()), recording.report.out_of_sensor) == (0, 1)


def test_triggers(tmp_path):
    events = some_events(20)
    specials = [(2, 10), (3, 20), (4, 30), (1, 40), (9, 50), (13, 60)]
    path = save(tmp_path / "a", polarity_packet(events), special_packet(specials, overflow=1))
    triggers = open_recording(path).triggers()
    epoch = 2**31
    expected = [(epoch + 10, 0, True), (epoch + 20, 0, False), (epoch + 50, 2, True), (epoch + 60, 3, False)]
    assert triggers.tolist() == expected


def cut_file(tmp_path, missing):
    events = some_events(100)
    whole = HEADER + polarity_packet(events[:50]) + polarity_packet(events[50:])
    (tmp_path / "cut").write_bytes(whole[:-missing])
    return tmp_path / "cut", events, len(whole)


@pytest.mark.parametrize("damage", ["skip", "salvage"])
@pytest.mark.parametrize(("missing", "lost", "partial"), [(3, 1, 1), (8, 1, 0), (81, 11, 1)])
def test_last_packet_cut_keeps_the_whole_events(tmp_path, damage, missing, lost, partial):
    path, events, size = cut_file(tmp_path, missing)
    recording = open_recording(path, ReadOptions(damage=damage))
    np.testing.assert_array_equal(recording.read(), events[: 100 - lost])
    report = recording.report
    assert (report.partial_records, report.first_damage_byte) == (partial, size - 8 * lost)
    assert report.notes == [f"the file ends inside a packet of events, {lost} events missing"]


def test_last_packet_cut_is_refused_by_strict(tmp_path):
    path, _, size = cut_file(tmp_path, 3)
    recording = open_recording(path, ReadOptions(damage="strict"))
    with pytest.raises(DamagedRecording, match=rf"byte {size - 8}: the file ends inside a packet of events"):
        recording.read()


def damaged_header(tmp_path):
    """The second of three packets says a negative size; 60 bytes of garbage stand before the third."""
    events = some_events(300)
    parts = [polarity_packet(part) for part in np.array_split(events, 3)]
    bad = struct.pack("<hhi", 1, 1, -8) + parts[1][8:] + np.random.default_rng(0).bytes(60)
    path = save(tmp_path / "a", parts[0], bad, parts[2])
    return path, events, len(HEADER + parts[0]), len(bad)


def test_header_that_cannot_be_one(tmp_path):
    path, events, byte, lost = damaged_header(tmp_path)
    with pytest.raises(DamagedRecording, match=rf"byte {byte}: .* is no packet header of AEDAT 3; read with"):
        open_recording(path, ReadOptions(damage="strict")).read()
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events[:100])
    report = recording.report
    assert (report.first_damage_byte, report.bytes_skipped) == (byte, report.bytes_total - byte)
    assert "nothing after it was read" in report.notes[0]
    recording = open_recording(path, ReadOptions(damage="salvage"))
    np.testing.assert_array_equal(recording.read(), np.concatenate([events[:100], events[200:]]))
    report = recording.report
    assert (report.first_damage_byte, report.bytes_skipped) == (byte, lost)


def test_strict_delivers_what_is_before_the_damage(tmp_path):
    path, events, byte, _ = damaged_header(tmp_path)
    chunks = open_recording(path, ReadOptions(damage="strict")).chunks(count=50)
    found = [next(chunks).copy(), next(chunks).copy()]
    np.testing.assert_array_equal(np.concatenate(found), events[:100])
    with pytest.raises(DamagedRecording, match=f"byte {byte}"):
        next(chunks)


@pytest.mark.parametrize("damage", ["skip", "salvage"])
@pytest.mark.parametrize("seed", range(20))
def test_overwritten_bytes_never_hang_nor_pass_unnoticed_outside_the_sensor(tmp_path, seed, damage):
    events = some_events(1000, seed=seed)
    data = bytearray(HEADER + b"".join(polarity_packet(part) for part in np.array_split(events, 10)))
    rng = np.random.default_rng(seed)
    at = int(rng.integers(len(HEADER), len(data) - 100))
    data[at : at + 100] = rng.bytes(100)
    (tmp_path / "a").write_bytes(data)
    recording = open_recording(tmp_path / "a", ReadOptions(damage=damage))
    found = recording.read()
    assert len(found) <= 1013
    assert found["x"].max() < 128
    assert found["y"].max() < 128
    assert recording.report.damaged
    if damage == "salvage":
        assert len(found) >= 780  # at most the packets touched, and the garbage itself


def test_header_only_and_header_cut(tmp_path):
    recording = open_recording(save(tmp_path / "a"), ReadOptions(damage="strict"))
    assert len(recording.read()) == 0
    assert not recording.report.damaged
    (tmp_path / "b").write_bytes(HEADER[:-3])
    with pytest.raises(DamagedRecording, match=r"b: byte \d+: the file ends inside its header"):
        open_recording(tmp_path / "b")
    save(tmp_path / "c", polarity_packet(some_events(9)), header=HEADER[:-14])
    with pytest.raises(DamagedRecording, match=r"c: byte \d+: the header has no line #!END-HEADER"):
        open_recording(tmp_path / "c")


def test_other_versions_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DAT3.7\r\n" + bytes(100))
    with pytest.raises(UnknownFormat, match="expected #!AER-DAT3"):
        open_recording(tmp_path / "a")


@pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
def test_reading_goes_on_from_a_bookmark(tmp_path, damage):
    events = some_events(3000)
    packets = [polarity_packet(part) for part in np.array_split(events, 10)]
    packets[3:3] = [
        special_packet([(2, 7)]),
        b"\xff" * 50,
        packet_header(kind=2, size=99, offset=12, number=1),
        bytes(99),
    ]
    outside = bytearray(b"".join(packets))
    outside[400:408] = b"\xff" * 8
    for name, data in (
        ("garbage", b"".join(packets)),
        ("outside", bytes(outside)),
        ("cut", b"".join(packets)[:-100]),
    ):
        assert_goes_on(save(tmp_path / name, data), ReadOptions(damage=damage), max_events=170)
