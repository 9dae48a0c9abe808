"""Clocks that wrap or jump, records that are no pixel, and bytes that are missing or garbage."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from suites.reader_suite import random_events, read_chunks

from events.errors import DamagedRecording
from events.readers.record_layout import LOOKED_AT
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.registry import write_recording

HEADER = b"#!AER-DAT2.0\r\n"
WRAP_US = 2**32


def aedat2(path, records, header=HEADER):
    """Write AEDAT 2.0 of (address, time) pairs."""
    path.write_bytes(
        header + b"".join(struct.pack(">II", address, time % WRAP_US) for address, time in records)
    )
    return path


def aedat1(path, records):
    path.write_bytes(b"#!AER-DAT1.0\r\n" + b"".join(struct.pack(">HI", a, t % WRAP_US) for a, t in records))
    return path


def bin40(path, records):
    """Write 5-byte records of (x, y, p, time)."""
    path.write_bytes(b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for x, y, p, t in records))
    return path


def times_and_report(path, **options):
    recording = open_recording(path, ReadOptions(**options))
    return recording.read()["t"].tolist(), recording.report


def test_two_wraps_are_unwrapped(tmp_path):
    stored = [4_000_000_000, 4_294_967_295, 0, 5, 3_000_000, 2_000_000_000, 4_100_000_000, 7]
    times, report = times_and_report(aedat2(tmp_path / "a", [(0, t) for t in stored]))
    expected = [*stored[:2], *(t + WRAP_US for t in stored[2:7]), 7 + 2 * WRAP_US]
    assert times == expected
    assert (report.wraps, report.backward_steps) == (2, 0)


def test_events_out_of_order_around_a_wrap_stay_near_it(tmp_path):
    stored = [WRAP_US - 5, 3, WRAP_US - 4, WRAP_US - 3, 5, 6]
    times, report = times_and_report(aedat2(tmp_path / "a", [(0, t) for t in stored]))
    assert times == [WRAP_US - 5, WRAP_US + 3, WRAP_US - 4, WRAP_US - 3, WRAP_US + 5, WRAP_US + 6]
    assert (report.wraps, report.backward_steps, report.largest_backward_us) == (1, 1, 7)


def test_one_wrong_time_is_no_wrap(tmp_path):
    times, report = times_and_report(
        aedat2(tmp_path / "a", [(0, t) for t in (1000, 3_000_000_000, 1001, 1002)])
    )
    assert times == [1000, 3_000_000_000, 1001, 1002]
    assert (report.wraps, report.backward_steps) == (0, 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-100, 1000), max_size=60),
    first=st.integers(0, WRAP_US - 1),
    max_events=st.integers(1, 70),
)
def test_any_clock_with_steps_below_half_a_wrap_comes_back(tmp_path, steps, first, max_events):
    times = [first]
    for step in steps:
        times.append(times[-1] + step if times[-1] + step >= 0 else times[-1])
    events = random_events(1, len(times), sensor_hw=(128, 128), span_us=10)
    events["t"] = times
    write_recording(tmp_path / "a", events, format="aedat2", sensor_hw=(128, 128))
    found, report = read_chunks(tmp_path / "a", ReadOptions(), max_events)
    np.testing.assert_array_equal(found["t"], times)
    assert report["backward_steps"] == np.count_nonzero(np.diff(times) < 0)


@pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
def test_special_events_are_counted_and_left_out(tmp_path, damage):
    records = [(0x1234 & 0x7FFF, 10), (0x8001, 20), (0x80000000, 30), (0x0102, 40)]
    times, report = times_and_report(aedat2(tmp_path / "a", records), damage=damage)
    assert times == [10, 40]
    assert (report.special_events, report.events, report.damaged) == (2, 2, False)
    times, report = times_and_report(aedat1(tmp_path / "b", [(0x8001, 10), (0x0102, 20)]), damage=damage)
    assert (times, report.special_events) == ([20], 1)


@pytest.mark.parametrize("orientation", ["dat2mat", "spikingjelly"])
def test_dat2mat_and_spikingjelly_keep_special_events(tmp_path, orientation):
    path = aedat2(tmp_path / "a", [(0x8001, 10), (0x7FFF0203, 20)])
    times, report = times_and_report(path, orientation=orientation)
    assert (times, report.special_events, report.damaged) == ([10, 20], 0, False)


def test_orientations_of_one_event(tmp_path):
    """The published example: xb = 10, yb = 20, bit 0."""
    path = aedat2(tmp_path / "a", [(20 << 8 | 10 << 1, 1)])
    expected = {
        "jaer": (117, 107, True),
        "dat2mat": (117, 20, True),
        "spikingjelly": (107, 117, True),
        "raw": (10, 20, True),
    }
    for orientation, (x, y, p) in expected.items():
        event = open_recording(path, ReadOptions(orientation=orientation)).read()[0]
        assert (event["x"], event["y"], event["p"]) == (x, y, p)
    assert not open_recording(path, ReadOptions(orientation="raw", polarity="raw")).read()["p"][0]


def test_davis_samples_and_external_events_are_special(tmp_path):
    header = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346red\r\n"
    pixel = (259 - 3) << 22 | (345 - 300) << 12 | 1 << 11
    path = aedat2(
        tmp_path / "a", [(pixel, 5), (0x80000123, 1), (pixel | 1 << 10, 6), (pixel ^ 1 << 11, 7)], header
    )
    recording = open_recording(path)
    events = recording.read()
    assert recording.sensor_hw == (260, 346)
    assert events[["t", "x", "y", "p"]].tolist() == [(5, 300, 3, True), (7, 300, 3, False)]
    assert (recording.report.special_events, recording.report.backward_steps) == (2, 0)


def test_davis_event_beyond_the_sensor_is_left_out(tmp_path):
    header = b"#!AER-DAT2.0\r\n# AEChip: DAVIS240C\r\n"
    path = aedat2(
        tmp_path / "a", [(5 << 22 | 5 << 12, 1), (180 << 22 | 5 << 12, 2), (5 << 22 | 240 << 12, 3)], header
    )
    times, report = times_and_report(path)
    assert (times, report.out_of_sensor, report.first_damage_byte) == ([1], 2, len(header) + 8)


def test_overflow_markers_of_five_byte_records(tmp_path):
    records = [(1, 2, 1, 100), (0, 240, 0, 0), (3, 4, 0, 50), (9, 240, 1, 77), (5, 240, 0, 0), (5, 6, 1, 60)]
    recording = open_recording(bin40(tmp_path / "a", records), ReadOptions(format="bin40", damage="strict"))
    assert recording.read()["t"].tolist() == [100, 50 + 8192, 60 + 3 * 8192]
    assert (recording.report.special_events, recording.report.backward_steps) == (3, 0)


@pytest.mark.parametrize(
    ("last_yx", "expected"),
    [
        ((33, 33), (34, 34)),
        ((34, 0), (128, 128)),
        ((0, 128), (180, 240)),
        ((180, 0), (240, 256)),
        ((0, 255), (240, 256)),
    ],
)
def test_sensor_of_five_byte_records_is_the_smallest_known_one(tmp_path, last_yx, expected):
    path = bin40(tmp_path / "a", [(1, 1, 0, 1), (last_yx[1], last_yx[0], 1, 2)])
    assert open_recording(path, ReadOptions(format="bin40")).sensor_hw == expected


def overwritten(size: int) -> bytes:
    return np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8).tobytes()


def camera_events(n: int, sensor_hw=(128, 128)) -> np.ndarray:
    """Events a few hundred microseconds apart, as a camera gives them."""
    return random_events(4, n, sensor_hw=sensor_hw, span_us=300 * n)


@pytest.mark.parametrize("max_events", [1, 64, 100_000])
def test_hundred_bytes_overwritten(tmp_path, max_events):
    """Skip: what cannot be an event of a DVS128 is left out, and the clock of all others stays right."""
    events = camera_events(2000)
    path = tmp_path / "a"
    write_recording(path, events, format="aedat2", sensor_hw=(128, 128))
    data = bytearray(path.read_bytes())
    start = len(data) - 1000 * 8 + 3  # inside record 1000
    data[start : start + 100] = overwritten(100)
    path.write_bytes(data)
    found, report = read_chunks(path, ReadOptions(), max_events)
    np.testing.assert_array_equal(found[:1000], events[:1000])
    np.testing.assert_array_equal(found[-987:], events[1013:])
    assert report["first_damage_byte"] == start - 3 + 8  # record 1000 keeps a possible address
    assert report["out_of_sensor"] == 2000 - report["events"] == 12
    assert report["bytes_skipped"] == 0


@pytest.mark.parametrize("max_events", [1, 64, 100_000])
@pytest.mark.parametrize("file_format", ["aedat1", "aedat2", "bin40"])
@pytest.mark.parametrize("change", [-3, -1, 1, 4])
def test_salvage_finds_the_next_record_after_missing_or_extra_bytes(
    tmp_path, file_format, change, max_events
):
    sensor_hw = (34, 34) if file_format == "bin40" else (128, 128)
    size = {"aedat1": 6, "aedat2": 8, "bin40": 5}[file_format]
    n = 400 if max_events == 1 else 4000
    events = camera_events(n, sensor_hw)
    path = tmp_path / "a"
    write_recording(path, events, format=file_format, sensor_hw=sensor_hw)
    data = path.read_bytes()
    middle = len(data) - n // 2 * size
    path.write_bytes(
        data[:middle] + (overwritten(change) + data[middle:] if change > 0 else data[middle - change :])
    )
    options = ReadOptions(format=file_format, sensor_hw=sensor_hw, damage="salvage")
    found, report = read_chunks(path, options, max_events)
    # All before the damage, and all but a few after it.
    np.testing.assert_array_equal(found[: n // 2], events[: n // 2])
    lost = 3
    np.testing.assert_array_equal(found[-(n // 2 - lost) :], events[-(n // 2 - lost) :])
    assert n - lost <= len(found) <= n + 1
    assert middle <= report["first_damage_byte"] <= middle + 2 * size
    assert 0 < report["bytes_skipped"] <= 3 * size
    assert report["partial_records"] == 0


def test_skip_never_shifts_the_records(tmp_path):
    """With three bytes missing, skip reads on where records would be, and salvage does not."""
    events = camera_events(1000)
    path = tmp_path / "a"
    write_recording(path, events, format="aedat2", sensor_hw=(128, 128))
    data = path.read_bytes()
    path.write_bytes(data[: -500 * 8] + data[-500 * 8 + 3 :])
    found, report = read_chunks(path, ReadOptions(), 1000)
    np.testing.assert_array_equal(found[:500], events[:500])
    assert report["out_of_sensor"] > 450
    assert report["partial_records"] == 1
    assert report["bytes_skipped"] == 0


@pytest.mark.parametrize("file_format", ["aedat1", "aedat2", "bin40"])
def test_salvage_of_a_sound_file_is_skip(tmp_path, file_format):
    """Also with glitches, pauses and few events, which are no damage."""
    sensor_hw = (34, 34) if file_format == "bin40" else (128, 128)
    events = camera_events(3000, sensor_hw)
    events["t"][1000:] += 3_000_000
    events["t"][2000:] += 3_000_000
    events["t"][1500] -= 200_000
    events = events[np.r_[0:1:1, 5:2500, 2998, 2999]]
    path = tmp_path / "a"
    write_recording(path, events, format=file_format, sensor_hw=sensor_hw)
    for damage in ("skip", "salvage"):
        options = ReadOptions(format=file_format, sensor_hw=sensor_hw, damage=damage)
        found, report = read_chunks(path, options, 333)
        np.testing.assert_array_equal(found, events)
        assert (report["first_damage_byte"], report["backward_steps"]) == (None, 1)


@pytest.mark.parametrize("file_format", ["aedat2", "dat", "bin40"])
def test_salvage_of_noise_looks_at_every_byte_once(tmp_path, file_format):
    """Found by fuzzing: a megabyte of noise took minutes, for each doubtful record searched ahead anew."""
    events = random_events(0, 50, sensor_hw=(128, 128), span_us=10_000)
    write_recording(tmp_path / "a", events, format=file_format, sensor_hw=(128, 128))
    noise = np.random.default_rng(0).bytes(50_000)
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes() + noise)
    recording = open_recording(tmp_path / "a", ReadOptions(format=file_format, damage="salvage"))
    for _ in recording.chunks():
        pass
    looked_at = recording.bookmark().at.counts[LOOKED_AT]
    # The bytes of a last run that is not whole are looked at again, where the next search goes further.
    assert 0 < looked_at < 20 * len(noise)


def test_salvage_leaves_out_one_impossible_time(tmp_path):
    events = camera_events(100)
    stored = events.copy()
    stored["t"][50] += 2_000_000_000
    path = tmp_path / "a"
    write_recording(path, stored, format="aedat1", sensor_hw=(128, 128))
    found, report = read_chunks(path, ReadOptions(damage="salvage"), 1000)
    np.testing.assert_array_equal(found, np.delete(events, 50))
    assert (report["bytes_skipped"], report["wraps"]) == (6, 0)


def test_strict_delivers_what_is_before_the_damage(tmp_path):
    path = aedat2(tmp_path / "a", [(2 * i, i) for i in range(10)] + [(0x10000, 10)] + [(0, 11)])
    recording = open_recording(path, ReadOptions(damage="strict"))
    delivered = []
    message = (
        f"a: byte {14 + 80}: record 00 01 00 00 00 00 00 0a is no event of a sensor of 128x128; read with"
    )
    chunks = recording.chunks(count=4)
    for _ in range(3):
        delivered += next(chunks)["t"].tolist()
    with pytest.raises(DamagedRecording, match=message):
        next(chunks)
    assert delivered == list(range(10))
    assert recording.report.first_damage_byte == 94


@pytest.mark.parametrize("first", [b"#A\n\x0b\x0c\x0d", b"#\x03\n\x00\x01\x02"])
def test_first_record_of_aedat1_that_looks_like_a_header_line(tmp_path, first):
    """y = 35 makes the first byte that of '#'; the rest tells that it is no line."""
    start = struct.unpack(">I", first[2:])[0]
    records = first + b"".join(struct.pack(">HI", 0x0102, start + i) for i in range(1, 20))
    (tmp_path / "a").write_bytes(b"#!AER-DAT1.0\r\n" + records)
    times, report = times_and_report(tmp_path / "a")
    assert times == list(range(start, start + 20))
    assert report.partial_records == 0


def test_header_ends_where_it_says_so(tmp_path):
    """Then a first record that is a perfect line is data all the same."""
    line = b"#A\n\nB\n"
    (tmp_path / "a").write_bytes(b"#!AER-DAT1.0\r\n# End Of ASCII Header\r\n" + line * 3)
    recording = open_recording(tmp_path / "a")
    assert len(recording.read()) == 3


def test_header_longer_than_one_read(tmp_path):
    preferences = b"".join(b"#   <entry key=%d value=true/>\r\n" % i for i in range(6000))
    assert len(preferences) > 1 << 17
    path = aedat2(tmp_path / "a", [(2 * i, i) for i in range(100)], HEADER + preferences)
    times, report = times_and_report(path)
    assert times == list(range(100))
    assert report.bytes_read == path.stat().st_size


def test_large_file_is_read_in_bounded_memory(tmp_path):
    """A sparse file of 512 MB, whose records are all the same."""
    path = tmp_path / "a"
    path.write_bytes(HEADER)
    with path.open("r+b") as stream:
        stream.truncate(len(HEADER) + (1 << 26) * 8)
    recording = open_recording(path)
    events, largest = 0, 0
    for chunk in recording.chunks(count=1 << 16):
        events += len(chunk)
        largest = max(largest, chunk.base.nbytes)
    assert (events, largest) == (1 << 26, (1 << 16) * 16)
