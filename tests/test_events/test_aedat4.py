"""AEDAT 4: the suite with FlatBuffers made by hand, several streams, and damage."""

import json
import os
import struct
import threading

import lz4.frame
import numpy as np
import pytest
import zstandard
from suites.bookmarks import assert_goes_on
from suites.reader_suite import ReaderSuite, random_events

from events.errors import ConfigError, DamagedRecording, UnknownFormat
from events.readers.live import open_live
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, EventDigest, ReadOptions
from events.writers.registry import write_recording

PACK = {
    0: lambda data: data,
    1: lz4.frame.compress,
    2: lambda data: lz4.frame.compress(data, compression_level=9, store_size=False),
    3: zstandard.ZstdCompressor().compress,
    4: zstandard.ZstdCompressor(level=9, write_content_size=False).compress,
}


def node(number, kind, sensor_hw=None):
    height, width = sensor_hw or (None, None)
    size = f'<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>'
    size = size if sensor_hw else ""
    return (
        f'<node name="{number}" path="/x/"><attr key="typeIdentifier" type="string">{kind}</attr>'
        f'<node name="info" path="/x/info/">{size}<attr key="source" type="string">DVX_1</attr></node></node>'
    )


def header(nodes, compression=0, table=-1) -> bytes:
    """Fields in another order than our writer's, and a string at the end, as DV lays them out."""
    text = f'<dv version="2.0"><node name="outInfo" path="/x/">{"".join(nodes)}</node></dv>'.encode()
    body = struct.pack("<I4s6x5H", 24, b"IOHE", 10, 20, 4, 12, 8)
    body += struct.pack("<iiIq", 10, compression, 12, table) + struct.pack("<I", len(text)) + text + b"\0   "
    return b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(body)) + body


def events_payload(events) -> bytes:
    """The vtable behind the table, which offsets may say as well."""
    structs = b"".join(struct.pack("<qhhB3x", e["t"], e["x"], e["y"], int(e["p"])) for e in events)
    body = struct.pack("<I4siII", 8, b"EVTS", -(12 + len(structs)), 4, len(events)) + structs
    return struct.pack("<I", len(body) + 6) + body + struct.pack("<3H", 6, 8, 4)


def plain_payload(events) -> bytes:
    """The vtable first, as everybody writes it."""
    structs = b"".join(struct.pack("<qhhB3x", e["t"], e["x"], e["y"], int(e["p"])) for e in events)
    start = struct.pack("<I4s4HiII", 16, b"EVTS", 6, 8, 4, 0, 8, 4, len(events))
    return struct.pack("<I", len(start) + len(structs)) + start + structs


def triggers_payload(kinds_and_times) -> bytes:
    """Tables of 16 bytes behind one vtable, after the vector of offsets to them."""
    count = len(kinds_and_times)
    start = struct.pack("<I4s4HiII", 16, b"TRIG", 6, 8, 4, 0, 8, 4, count)
    tables_at = 28 + 4 * count + 8
    offsets = b"".join(struct.pack("<I", tables_at + 16 * i - (28 + 4 * i)) for i in range(count))
    vtable_at = 28 + 4 * count
    body = start + offsets + struct.pack("<4H", 8, 16, 8, 7)
    for i, (kind, time) in enumerate(kinds_and_times):
        body += struct.pack("<i3xbq", tables_at + 16 * i - vtable_at, kind, time)
    return struct.pack("<I", len(body)) + body


def other_payload(mark=b"FRME", size=3000) -> bytes:
    body = struct.pack("<I4s", 16, mark) + bytes(size)
    return struct.pack("<I", len(body)) + body


def packet(stream, payload, compression=0) -> bytes:
    stored = PACK[compression](payload)
    return struct.pack("<ii", stream, len(stored)) + stored


def some_events(n=300, seed=0, sensor_hw=(128, 128)):
    return random_events(seed, n, sensor_hw=sensor_hw, span_us=100_000)


DEFAULT_NODES = (node(0, "EVTS", (128, 128)),)


def save(path, *parts, nodes=DEFAULT_NODES, compression=0, table=-1):
    path.write_bytes(header(nodes, compression, table) + b"".join(parts))
    return path


class TestAedat4(ReaderSuite):
    """One packet of LZ4."""

    format = "aedat4"
    compression = 1

    def encode(self, events):
        start = header([node(0, "EVTS", (128, 128))], self.compression)
        return start + packet(0, plain_payload(events), self.compression)


class TestAedat4Interleaved(ReaderSuite):
    """Small packets of Zstandard among frames, IMU samples and triggers, and a table behind them."""

    format = "aedat4"

    def encode(self, events):
        nodes = [node(7, "FRME", (128, 128)), node(2, "EVTS", (128, 128)), node(3, "TRIG"), node(5, "IMUS")]
        parts = [packet(7, other_payload(), 3)]
        for start in range(0, len(events), 37):
            parts.append(packet(2, events_payload(events[start : start + 37]), 3))
            parts.append(packet(3, triggers_payload([(1, start)]), 3))
            parts.append(packet(5, other_payload(b"IMUS", 50), 3))
        parts.append(packet(2, events_payload(events[:0]), 3))
        packets = b"".join(parts)
        end = len(header(nodes, 3)) + len(packets)
        return header(nodes, 3, end) + packets + PACK[3](other_payload(b"FTAB", 100))


class TestAedat4Plain(TestAedat4):
    """Not packed."""

    compression = 0


@pytest.mark.parametrize("compression", range(5))
def test_every_compression(tmp_path, compression):
    events = some_events(20_000)
    parts = [packet(0, events_payload(part), compression) for part in np.array_split(events, 9)]
    path = save(tmp_path / "a", *parts, compression=compression)
    recording = open_recording(path, ReadOptions(damage="strict"))
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.facts["compression"] == ("none", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH")[compression]
    assert recording.facts["source"] == "DVX_1"


@pytest.mark.parametrize("compression", ["none", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"])
def test_every_compression_is_written(tmp_path, compression):
    events = some_events(25_000, sensor_hw=(260, 346))
    events["t"] += 1_600_000_000_000_000
    path = tmp_path / "a"
    write_recording(path, events, format="aedat4", sensor_hw=(260, 346), compression=compression)
    recording = open_recording(path, ReadOptions(damage="strict"))
    np.testing.assert_array_equal(recording.read(), events)
    assert (recording.sensor_hw, recording.facts["compression"]) == ((260, 346), compression)


def test_what_the_writer_does_not_take(tmp_path):
    for details, message in (
        ({"sensor_hw": (1 << 15, 128)}, "does not fit AEDAT 4, which holds less than 32768x32768"),
        ({"compression": "LZ5"}, "compression 'LZ5' is unknown; known are none, LZ4.*did you mean 'LZ4'"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_recording(
                tmp_path / "a", some_events(9), format="aedat4", **{"sensor_hw": (128, 128)} | details
            )


def stereo(tmp_path):
    left, right = some_events(100, 1), some_events(200, 2, (64, 64))
    parts = [packet(4, events_payload(left[:50])), packet(1, events_payload(right[:70]))]
    parts += [packet(1, events_payload(right[70:])), packet(4, events_payload(left[50:]))]
    nodes = [node(4, "EVTS", (128, 128)), node(1, "EVTS", (64, 64)), node(9, "FRME")]
    return save(tmp_path / "a", *parts, packet(9, other_payload()), nodes=nodes), left, right


def test_two_streams_of_events_are_never_mixed(tmp_path):
    path, left, right = stereo(tmp_path)
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), left)
    notes = ["stream 1 (EVTS): 2 packets left out", "stream 9 (FRME): 1 packets left out"]
    assert (recording.report.notes, recording.report.other_packets) == (notes, 3)
    recording = open_recording(path, ReadOptions(stream=1, damage="strict"))
    np.testing.assert_array_equal(recording.read(), right)
    assert recording.sensor_hw == (64, 64)
    with pytest.raises(ConfigError, match="stream 9 holds no events; the streams are 1 EVTS, 4 EVTS, 9 FRME"):
        open_recording(path, ReadOptions(stream=9))


def test_file_without_events(tmp_path):
    path = save(tmp_path / "a", packet(0, other_payload()), nodes=[node(0, "FRME")])
    with pytest.raises(UnknownFormat, match="holds no stream of events; its streams are 0 FRME"):
        open_recording(path)


def test_streams_are_told_by_their_packets_where_the_header_does_not(tmp_path):
    events = some_events()
    parts = [packet(3, other_payload(), 1), packet(6, events_payload(events), 1)]
    recording = open_recording(save(tmp_path / "a", *parts, nodes=["<node>"], compression=1))
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.report.notes[0] == "the header does not tell of the streams"
    assert recording.sensor_hw == (events["y"].max() + 1, events["x"].max() + 1)


def test_type_of_a_stream_cannot_break_a_message(tmp_path):
    """Found by fuzzing: letters with a line end, in the packets or in the description."""
    bad = other_payload(b"T\xf5\n ")
    for nodes in (["<node>"], [node(0, "A\nB")]):
        with pytest.raises(UnknownFormat, match=r"holds no stream of events; its streams are 0 unknown$"):
            open_recording(save(tmp_path / "a", packet(0, bad, 1), nodes=nodes, compression=1))


def test_entities_in_the_description_are_not_expanded(tmp_path):
    start = header(["&a;"]).replace(b'<dv version="2.0">', b"<!DOCTYPE d [ <!-")
    (tmp_path / "a").write_bytes(start + packet(0, events_payload(some_events())))
    assert open_recording(tmp_path / "a").facts["streams"] == []


def test_triggers(tmp_path):
    kinds = [(0, 5), (1, 10), (2, 20), (3, 30), (4, 40), (5, 50), (7, 60)]
    nodes = [node(0, "EVTS", (128, 128)), node(1, "TRIG")]
    path = save(
        tmp_path / "a", packet(1, triggers_payload(kinds)), packet(0, events_payload([])), nodes=nodes
    )
    expected = [(10, 0, True), (20, 0, False), (40, 1, True), (50, 1, False)]
    assert open_recording(path).triggers().tolist() == expected


def test_times_before_1970_and_polarity_other_than_0_and_1(tmp_path):
    events = some_events(10)
    events["t"] -= 50_000
    data = bytearray(events_payload(events))
    data[24 + 12] = 7  # any byte but 0 is true
    events["p"][0] = True
    np.testing.assert_array_equal(open_recording(save(tmp_path / "a", packet(0, bytes(data)))).read(), events)


def test_steps_of_more_than_63_bits_are_steps_back(tmp_path):
    """Found by fuzzing: their difference, taken in 64 bits, is positive."""
    events = some_events(50)
    events["t"][20:25] = [2**63 - 1, -(2**63) + 5, 2**62, -(2**62) - 7, 100]
    path = save(tmp_path / "a", packet(0, plain_payload(events)))
    reports = []
    for count in (1000, 1, 3):
        recording = open_recording(path)
        found = [chunk.copy() for chunk in recording.decode_chunks(max_events=count)]
        np.testing.assert_array_equal(np.concatenate(found), events)
        reports.append(recording.report.as_dict())
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["backward_steps"] == 2


@pytest.mark.parametrize("compression", [1, 2, 3, 4])
def test_damaged_packet_is_left_out(tmp_path, compression):
    events = some_events(9000)
    parts = [packet(0, events_payload(part), compression) for part in np.array_split(events, 3)]
    bad = bytearray(parts[1])
    bad[8:14] = b"\xff" * 6
    path = save(tmp_path / "a", parts[0], bytes(bad), parts[2], compression=compression)
    byte = len(header([node(0, "EVTS", (128, 128))])) + len(parts[0])
    for damage in ("skip", "salvage"):
        recording = open_recording(path, ReadOptions(damage=damage))
        np.testing.assert_array_equal(recording.read(), np.concatenate([events[:3000], events[6000:]]))
        report = recording.report
        assert (report.damaged_packets, report.first_damage_byte) == (1, byte)
        assert (report.bytes_skipped, report.bytes_read) == (len(bad), report.bytes_total - len(bad))
    chunks = open_recording(path, ReadOptions(damage="strict")).chunks()
    np.testing.assert_array_equal(next(chunks), events[:3000])
    with pytest.raises(DamagedRecording, match=rf"byte {byte}: a packet of {len(bad) - 8} bytes cannot be"):
        next(chunks)


@pytest.mark.parametrize("compression", [0, 1, 3])
@pytest.mark.parametrize(
    ("at", "value"),
    [(0, 0xFFFFFFF0), (4, 0x7FFFFFFF), (8, 0x0), (12, 0x7FFFFFFF), (16, 0xFFFFFFFF), (20, 0x7FFFFFFF)],
)
def test_flatbuffer_that_points_outside(tmp_path, compression, at, value):
    """Size, root, letters, vtable, vector and number of elements."""
    events = some_events(900)
    parts = [events_payload(part) for part in np.array_split(events, 3)]
    parts[1] = parts[1][:at] + struct.pack("<I", value) + parts[1][at + 4 :]
    packets = [packet(0, part, compression) for part in parts]
    path = save(tmp_path / "a", *packets, compression=compression)
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), np.concatenate([events[:300], events[600:]]))
    report = recording.report
    assert (report.damaged_packets, report.bytes_skipped) == (1, len(packets[1]))
    assert report.damaged
    with pytest.raises(DamagedRecording, match=r"byte \d+: this packet holds no events; read with"):
        open_recording(path, ReadOptions(damage="strict")).read()


def test_frame_that_says_it_unpacks_to_everything(tmp_path):
    """The size in an LZ4 frame is what a library allocates; Zstandard can make very much of very little."""
    events = some_events(100)
    frame = bytearray(lz4.frame.compress(events_payload(events)))
    frame[6:14] = (1 << 60).to_bytes(8, "little")
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 29))
    for compression, stored in ((1, bytes(frame)), (3, bomb)):
        parts = [struct.pack("<ii", 0, len(stored)) + stored, packet(0, events_payload(events), compression)]
        recording = open_recording(save(tmp_path / "a", *parts, compression=compression))
        np.testing.assert_array_equal(recording.read(), events)
        assert recording.report.damaged_packets == 1


@pytest.mark.parametrize("damage", ["skip", "salvage"])
@pytest.mark.parametrize("table", [-1, 10**9])
def test_last_packet_cut(tmp_path, damage, table):
    """Not packed, the whole events before the cut; packed, those that still unpack: here none."""
    events = some_events(100)
    for compression, kept in ((0, 98), (1, 50)):
        parts = [packet(0, plain_payload(part), compression) for part in (events[:50], events[50:])]
        path = save(tmp_path / "a", *parts, compression=compression, table=table)
        path.write_bytes(path.read_bytes()[:-29])
        recording = open_recording(path, ReadOptions(damage=damage))
        np.testing.assert_array_equal(recording.read(), events[:kept])
        report = recording.report
        assert (report.partial_records, report.damaged) == (1, True)
        assert report.notes[0].startswith("the file ends inside a packet, ")
        with pytest.raises(
            DamagedRecording, match=r"byte \d+: the file ends inside a packet, \d+ of \d+ bytes"
        ):
            open_recording(path, ReadOptions(damage="strict")).read()


@pytest.mark.parametrize("damage", ["skip", "salvage"])
def test_of_a_cut_packet_only_bytes_that_are_there_are_passed_over(tmp_path, damage):
    events = some_events(50)
    cut = struct.pack("<ii", 0, 250_000) + bytes(range(200, 250)) * 10
    path = save(tmp_path / "a", packet(0, plain_payload(events)), cut)
    recording = open_recording(path, ReadOptions(damage=damage))
    np.testing.assert_array_equal(recording.read(), events)
    report = recording.report
    assert report.bytes_skipped == len(cut)
    assert report.bytes_read == path.stat().st_size - len(cut)


def test_blocks_of_a_cut_packet_that_still_unpack_are_kept(tmp_path):
    """An LZ4 frame is made of blocks of 64 KiB, 4096 events."""
    events = some_events(20_000)
    path = save(tmp_path / "a", packet(0, plain_payload(events), 1), compression=1)
    path.write_bytes(path.read_bytes()[:-20_000])
    found = open_recording(path).read()
    assert 8_000 < len(found) < 20_000
    np.testing.assert_array_equal(found, events[: len(found)])


def test_file_cut_between_packets_lacks_its_table(tmp_path):
    events = some_events()
    path = save(tmp_path / "a", packet(0, events_payload(events)), table=10**6)
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.report.notes == ["the file ends before its table of packets"]
    assert recording.report.first_damage_byte == path.stat().st_size


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_garbage_between_packets(tmp_path, compression):
    events = some_events()
    parts = [packet(0, events_payload(part), compression) for part in np.array_split(events, 3)]
    garbage = np.random.default_rng(3).bytes(1000)
    path = save(tmp_path / "a", parts[0], garbage, parts[1], parts[2], compression=compression)
    recording = open_recording(path, ReadOptions(damage="salvage"))
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.report.bytes_skipped == 1000
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events[:100])
    report = recording.report
    assert report.bytes_skipped == 1000 + len(parts[1]) + len(parts[2])
    assert "nothing after it was read" in report.notes[0]


@pytest.mark.parametrize("damage", ["skip", "salvage"])
@pytest.mark.parametrize("seed", range(30))
def test_overwritten_bytes_never_hang(tmp_path, seed, damage):
    rng = np.random.default_rng(seed)
    compression = seed % 5
    events = some_events(1000, seed)
    start = header([node(0, "EVTS", (128, 128))], compression)
    parts = [packet(0, events_payload(part), compression) for part in np.array_split(events, 10)]
    data = bytearray(start + b"".join(parts))
    at = int(rng.integers(len(start), len(data) - 100))
    data[at : at + 100] = rng.bytes(100)
    (tmp_path / "a").write_bytes(data)
    recording = open_recording(tmp_path / "a", ReadOptions(damage=damage))
    found = recording.read()
    assert len(found) <= 1000
    assert found["x"].max(initial=0) < 128
    recording.triggers()


def test_header_that_is_none(tmp_path):
    whole = header([node(0, "EVTS", (128, 128))])
    for data, message in (
        (whole[:40], r"byte 40: the file ends inside its header of \d+ bytes"),
        (whole.replace(b"IOHE", b"IOHX"), "byte 22: found b'IOHX', expected b'IOHE'"),
        (whole[:18] + b"\xff\xff\xff\x7f" + whole[22:], r"byte 14: the header of \d+ bytes is damaged"),
    ):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(DamagedRecording, match=message):
            open_recording(tmp_path / "a")
    save(tmp_path / "a", compression=9)
    with pytest.raises(UnknownFormat, match="packets packed as number 9; known are 0 none, 1 LZ4"):
        open_recording(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "sensor_hw", "others"),
    [
        ("evl_sample.aedat4", (260, 346), 33),
        ("redpob_dvSave-2024_06_13_16_16_25.aedat4", (128, 128), 0),
        ("tonic_sample.aedat4", (240, 320), 59),
    ],
)
def test_digest_of_independent_decoders(samples, name, sensor_hw, others):
    expected = json.loads(samples("digests.json").read_text())[f"aedat4/{name}"]
    expected.pop("independent_decoders")
    recording = open_recording(samples(f"aedat4/{name}"), ReadOptions(damage="strict"))
    digest = EventDigest()
    for chunk in recording.chunks(count=1000):
        digest.update(chunk)
    assert digest.as_dict() == expected
    report = recording.report
    assert (report.events, report.damaged, report.other_packets) == (expected["events"], False, others)
    assert report.bytes_read == report.bytes_total
    assert recording.sensor_hw == sensor_hw
    assert recording.triggers().dtype.names == ("t", "channel", "rising")


def test_events_are_laid_out_as_the_loop_expects():
    assert EVENT_DTYPE.itemsize == 16


def damaged_files():
    """Names and bytes of recordings in which something is wrong, with another stream and a table behind."""
    events = random_events(3, 9000, sensor_hw=(128, 128), span_us=90_000)
    nodes = [node(0, "EVTS", (128, 128)), node(1, "FRME")]
    parts = [packet(0, events_payload(part), 1) for part in np.array_split(events, 30)]
    parts[4:4] = [packet(1, other_payload(b"FRME", 70_000), 1)] * 3
    parts[20:20] = [packet(1, other_payload(), 1), packet(0, events_payload(events[:9])[:-8], 1)]
    sound = b"".join(parts)
    start = header(nodes, 1, len(header(nodes, 1)) + len(sound))
    whole = start + sound + b"the table of packets" * 50
    lost = bytearray(whole)
    lost[len(start) + 20_000 : len(start) + 20_040] = b"\xff" * 40
    third = len(start) + sum(map(len, parts[:9]))
    yield "sound but for a packet", whole
    yield "a packet that cannot be unpacked", bytes(lost)
    yield "garbage", whole[:third] + b"\xff" * 99 + whole[third:]
    yield "cut", whole[: len(whole) * 2 // 3]
    yield "cut before the table", start + sound


@pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
@pytest.mark.parametrize(("name", "data"), list(damaged_files()), ids=lambda value: str(value)[:20])
def test_reading_goes_on_from_a_bookmark(tmp_path, name, data, damage):
    (tmp_path / name).write_bytes(data)
    assert_goes_on(tmp_path / name, ReadOptions(damage=damage), max_events=700)


@pytest.mark.parametrize(("name", "data"), list(damaged_files()), ids=lambda value: str(value)[:20])
def test_a_pipe_gives_the_report_of_the_file(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    expected = open_recording(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
    writer.start()
    recording = open_live(tmp_path / "pipe")
    np.testing.assert_array_equal(recording.read(), expected.read())
    writer.join(timeout=20)
    assert not writer.is_alive()
    report = recording.report.as_dict() | {"path": str(expected.path)}
    assert report == expected.report.as_dict()


def test_a_pipe_must_say_how_large_its_sensor_is(tmp_path):
    data = save(tmp_path / "a", packet(0, events_payload(some_events())), nodes=()).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[data])
    writer.start()
    recording = open_live(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"does not say how large its sensor is, .* give sensor_hw"):
        recording.read()
    writer.join(timeout=20)
