"""AEDAT 4: times and events found by the table of packets, and tables that are not true."""

import struct

import lz4.frame
import numpy as np
import pytest
from suites.reader_suite import random_events

import events.readers.aedat4_seek as aedat4_seek
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.aedat4 import write_aedat4

HW = (128, 128)
PACKETS = 30
PACKET_EVENTS = 100


def table_of(rows, *, without_times=False) -> bytes:
    """One vtable for all rows of position, stream, size, events, first and last time."""
    fields = (7 * 2, 44, 4, 36, 12, 20, 28) if not without_times else (4 * 2, 44, 4, 36)
    vtable = struct.pack(f"<{len(fields)}H", *fields) + bytes(-2 * len(fields) % 4)
    body = bytearray(struct.pack("<I4s4HiII", 16, b"FTAB", 6, 8, 4, 0, 8, 4, len(rows)))
    first = len(body) + 4 * len(rows) + len(vtable)
    body += b"".join(struct.pack("<I", first + 44 * i - (len(body) + 4 * i)) for i in range(len(rows)))
    vtable_at = len(body)
    body += vtable
    for position, stream, size, count, first_us, last_us in rows:
        body += struct.pack(
            "<iqqqqii", len(body) - vtable_at, position, count, first_us, last_us, stream, size
        )
    return lz4.frame.compress(struct.pack("<I", len(body)) + bytes(body))


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Events, the bytes of a file of them without a table, and the rows of a true one."""
    monkeypatch.setattr(aedat4_seek, "BLOCK_EVENTS", 250)
    monkeypatch.setattr("events.writers.aedat4.PACKET_EVENTS", PACKET_EVENTS)
    events = random_events(1, PACKETS * PACKET_EVENTS, sensor_hw=HW, span_us=900_000)
    write_aedat4(tmp_path / "a", events, sensor_hw=HW)
    data = bytearray((tmp_path / "a").read_bytes())
    at, rows = len(b"#!AER-DAT4.0\r\n"), []
    at += 4 + struct.unpack_from("<I", data, at)[0]
    for part in np.split(events, PACKETS):
        stream, size = struct.unpack_from("<iI", data, at)
        rows.append([at + 8, stream, size, len(part), int(part["t"][0]), int(part["t"][-1])])
        at += 8 + size
    return events, data, rows


def save(path, data, table):
    """Write a file whose header, whose numbers our writer puts at one place, names the table."""
    data = bytes(data)
    position = struct.pack("<q", -1)
    assert data.count(position) == 1
    path.write_bytes(data.replace(position, struct.pack("<q", len(data))) + table)
    return path


def ranges(events):
    rng = np.random.default_rng(2)
    for _ in range(10):
        start, stop = (int(t) for t in np.sort(rng.integers(0, 900_000, 2)))
        kept = (events["t"] >= start) & (events["t"] < stop)
        yield {"start_us": start, "stop_us": stop}, events[kept]
        start, stop = (int(at) for at in np.sort(rng.integers(0, len(events), 2)))
        yield {"start_event": start, "stop_event": stop}, events[start:stop]


def read_range(recording, wanted):
    parts = [chunk.copy() for chunk in recording.chunks(**wanted)]
    return np.concatenate([recording.read()[:0], *parts]) if not parts else np.concatenate(parts)


def test_ranges_are_found_by_the_table(tmp_path, recorded):
    events, data, rows = recorded
    path = save(tmp_path / "b", data, table_of(rows))
    assert len(open_recording(path).stored_index().blocks) == 13
    for wanted, expected in ranges(events):
        recording = open_recording(path)
        np.testing.assert_array_equal(read_range(recording, wanted), expected)
        told = [note.startswith("told by the table of packets") for note in recording.report.notes]
        assert told == ([True] if "start_us" in wanted else [])  # numbers are counted, never told
    np.testing.assert_array_equal(open_recording(path).read(), events)


def test_what_a_range_does_not_need_is_not_read(tmp_path, recorded):
    """A packet that cannot be unpacked is met only where it is read; `strict` meets it always."""
    events, data, rows = recorded
    data[rows[3][0] : rows[3][0] + 6] = b"\xff" * 6
    path = save(tmp_path / "b", data, table_of(rows))
    start_us, stop_us = int(events["t"][1500]), int(events["t"][1600])
    recording = open_recording(path)
    np.testing.assert_array_equal(
        read_range(recording, {"start_us": start_us, "stop_us": stop_us}),
        events[(events["t"] >= start_us) & (events["t"] < stop_us)],
    )
    assert open_recording(path, ReadOptions(damage="strict")).stored_index() is None
    whole = open_recording(path).read()
    assert len(whole) < len(events)
    found = read_range(recording, {"start_event": 1500, "stop_event": 1600})
    np.testing.assert_array_equal(found, whole[1500:1600])  # numbers count what could be read


@pytest.mark.parametrize(
    ("row", "column", "change"), [(10, 3, 1), (10, 3, -1), (9, 4, 3), (11, 5, -3), (29, 3, -5), (0, 3, 4)]
)
def test_a_table_that_is_not_true_is_left_and_named(tmp_path, recorded, row, column, change):
    events, data, rows = recorded
    rows[row][column] += change
    path = save(tmp_path / "b", data, table_of(rows))
    wanted = {"start_us": int(events["t"][100 * row]), "stop_us": int(events["t"][100 * row + 99]) + 1}
    expected = events[(events["t"] >= wanted["start_us"]) & (events["t"] < wanted["stop_us"])]
    recording = open_recording(path)
    np.testing.assert_array_equal(read_range(recording, wanted), expected)
    note = recording.report.notes[-1]
    assert "that the table of packets tells; the recording was read through" in note
    np.testing.assert_array_equal(read_range(recording, wanted), expected)
    assert recording.report.notes[-1] == note
    assert recording.report.events == len(events)


@pytest.mark.parametrize("fault", ["gap", "order", "stream", "no times", "garbage", "cut"])
def test_a_table_that_does_not_fit_is_not_used(tmp_path, recorded, fault):
    events, data, rows = recorded
    if fault == "gap":
        del rows[7]
    elif fault == "order":
        rows[7][5] += 50_000
    elif fault == "stream":
        for row in rows:
            row[1] = 5
    table = table_of(rows, without_times=fault == "no times")
    if fault == "garbage":
        table = lz4.frame.compress(np.random.default_rng(0).bytes(3000))
    elif fault == "cut":
        table = table[:-20]
    path = save(tmp_path / "b", data, table)
    recording = open_recording(path)
    assert recording.stored_index() is None
    np.testing.assert_array_equal(
        read_range(recording, {"start_event": 1234, "stop_event": 2000}), events[1234:2000]
    )


@pytest.mark.parametrize("seed", range(20))
def test_overwritten_tables_never_hang(tmp_path, recorded, seed):
    events, data, rows = recorded
    table = bytearray(lz4.frame.decompress(table_of(rows)))
    rng = np.random.default_rng(seed)
    at = rng.integers(0, len(table), 5)
    table[int(at[0])] ^= 1 << int(rng.integers(8))
    path = save(tmp_path / "b", data, lz4.frame.compress(bytes(table)))
    for wanted, expected in list(ranges(events))[:4]:
        np.testing.assert_array_equal(read_range(open_recording(path), wanted), expected)
