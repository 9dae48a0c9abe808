"""Prophesee RAW: words encoded by hand, clocks that wrap, vectors, triggers, headers, and damage."""

import struct

import numpy as np
import pytest
from suites.reader_suite import ReaderSuite, random_events, read_chunks

from events.errors import ConfigError, DamagedRecording, UnknownFormat
from events.readers.registry import identify, open_recording
from events.recording import ReadOptions
from events.writers.registry import write_recording

HD = b"% geometry 1280x720\n"
EVT2 = b"% evt 2.0\n" + HD + b"% end\n"
EVT3 = b"% evt 3.0\n" + HD + b"% end\n"


def words16(*words):
    return struct.pack(f"<{len(words)}H", *words)


def words32(*words):
    return struct.pack(f"<{len(words)}I", *words)


def high(bits):
    return 0x8000 | bits & 0xFFF


def low(bits):
    return 0x6000 | bits


def column(x, p=0):
    return 0x2000 | p << 11 | x


def encode_evt2(events):
    words, last = [], None
    for t, x, y, p in events.tolist():
        if t >> 6 != last:
            last = t >> 6
            words.append(0x8 << 28 | last & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return words32(*words)


def encode_evt3(events):
    """All of time, row and column for every event, as nothing needs to be left out."""
    words = []
    for t, x, y, p in events.tolist():
        words += [high(t >> 12), low(t & 0xFFF), y, column(x, p)]
    return words16(*words)


class TestEvt2(ReaderSuite):
    format = "evt2"
    sensor_hw = (720, 1280)
    span_us = 2**33

    def encode(self, events):
        return EVT2 + encode_evt2(events)


class TestEvt2WithoutEnd(ReaderSuite):
    """A header of 2020: no size, no end; the board says that the sensor is VGA."""

    format = "evt2"
    sensor_hw = (480, 640)

    def encode(self, events):
        return b"% Date 2020-09-25 07:48:31\n% system_ID 21\n% evt 2.0\n" + encode_evt2(events)


class TestEvt3(ReaderSuite):
    format = "evt3"
    sensor_hw = (720, 1280)
    span_us = 2**23

    def encode(self, events):
        return EVT3 + encode_evt3(events)


class TestEvt3Vectors(ReaderSuite):
    """Each event as a vector of 12 or 8 columns, so that every chunk ends inside one."""

    format = "evt3"
    sensor_hw = (720, 1280)

    def some_events(self, n, seed=0):
        """Rows of nine events: columns 0 to 5 and 8 to 10 of a vector."""
        events = super().some_events(n, seed)
        first = np.arange(n) // 9 * 9
        for name in ("t", "y", "p"):
            events[name] = events[name][first]
        offsets = np.array([0, 1, 2, 3, 4, 5, 8, 9, 10])
        events["x"] = np.minimum(events["x"][first], 1250) + offsets[np.arange(n) % 9]
        return events

    def encode(self, events):
        words, rows = [], []
        for t, x, y, p in events.tolist():
            if rows and rows[-1][0] == (t, y, p) and rows[-1][1][-1] < x < rows[-1][1][0] + 20:
                rows[-1][1].append(x)
            else:
                rows.append(((t, y, p), [x]))
        for (t, y, p), columns in rows:
            mask = sum(1 << x - columns[0] for x in columns)
            words += [high(t >> 12), low(t & 0xFFF), y, 0x3000 | p << 11 | columns[0], 0x5000 | mask & 0xFF]
            words += [0x4000 | mask >> 8] if mask >> 8 else []
        return EVT3 + words16(*words)


def read(path, data, **options):
    path.write_bytes(data)
    recording = open_recording(path, ReadOptions(**options))
    return recording.read(), recording.report


# Clocks


def test_evt3_wrap_of_24_bits(tmp_path):
    data = words16(high(0xFFF), low(0xFFE), 7, column(1), high(0), low(2), column(2), high(1), column(3))
    events, report = read(tmp_path / "a", EVT3 + data)
    assert events["t"].tolist() == [2**24 - 2, 2**24 + 2, 2**24 + 4096]
    assert (report.wraps, report.backward_steps, report.damaged) == (1, 0, False)


def test_evt3_recording_that_starts_at_the_last_time_high_loses_no_time(tmp_path):
    data = words16(high(0xFFF), low(0), 7, column(1), high(0), low(0), column(2), low(5), column(3))
    events, report = read(tmp_path / "a", EVT3 + data)
    assert events["t"].tolist() == [0xFFF000, 2**24, 2**24 + 5]
    assert report.wraps == 1


def test_evt3_fall_of_less_than_half_is_kept(tmp_path):
    data = words16(high(0x900), 7, column(1), high(0x101), column(2), high(0x901), column(3))
    events, report = read(tmp_path / "a", EVT3 + data)
    assert events["t"].tolist() == [0x900000, 0x101000, 0x901000]
    assert (report.wraps, report.backward_steps, report.largest_backward_us) == (0, 1, 0x7FF000)
    events, report = read(tmp_path / "b", EVT3 + data.replace(words16(high(0x101)), words16(high(0x100))))
    assert events["t"].tolist() == [0x900000, 0x1100000, 0x1901000]
    assert (report.wraps, report.backward_steps) == (1, 0)


def test_evt3_new_time_high_sets_the_low_bits_to_zero_and_a_repeated_one_does_not(tmp_path):
    data = words16(high(5), low(9), 7, column(1), high(5), column(2), high(6), column(3), low(9), column(4))
    events, _ = read(tmp_path / "a", EVT3 + data)
    assert events["t"].tolist() == [0x5009, 0x5009, 0x6000, 0x6009]


@pytest.mark.parametrize("wrong", [0xF00, 0x000])
def test_one_damaged_time_high_is_no_wrap(tmp_path, wrong):
    """As in a camera's stream, which says the time all the time; the events in between keep what is said."""
    words = []
    for k in range(0x880, 0x8A0):
        words += [high(k), 7, column(1)]
    words[3 * 16] = high(wrong)
    events, report = read(tmp_path / "a", EVT3 + words16(*words))
    times = events["t"] >> 12
    assert times[:16].tolist() == list(range(0x880, 0x890))
    assert times[17:].tolist() == list(range(0x891, 0x8A0))
    assert (report.wraps, report.backward_steps) == (0, 1)


def test_evt2_wrap_of_34_bits(tmp_path):
    data = words32(0x8FFFFFFF, 63 << 22, 0x80000000, 5 << 22, 0x80000001, 1 << 28)
    events, report = read(tmp_path / "a", EVT2 + data)
    assert events["t"].tolist() == [2**34 - 1, 2**34 + 5, 2**34 + 64]
    assert events["p"].tolist() == [False, False, True]
    assert (report.wraps, report.backward_steps) == (1, 0)


def test_evt2_backward_step_of_two_milliseconds_is_kept(tmp_path):
    data = words32(0x80001000, 0, 0x80001000 - 32, 48 << 22, 0x80001001, 0)
    events, report = read(tmp_path / "a", EVT2 + data)
    assert events["t"].tolist() == [0x40000, 0x40000 - 2000, 0x40040]
    assert (report.wraps, report.backward_steps, report.largest_backward_us) == (0, 1, 2000)


# What is no event


def test_events_before_the_first_time_and_row_are_left_out_and_counted(tmp_path):
    data = words16(7, column(1), low(3), column(2), high(1), column(3), 0x4001, 0x3005, 0x4003, low(4))
    events, report = read(tmp_path / "a", EVT3 + data + words16(column(9)))
    # The row is known when the time is, but the base of the first vector is not.
    assert events.tolist() == [(4096, x, 7, False) for x in (3, 5, 6)] + [(4100, 9, 7, False)]
    assert (report.unplaced_events, report.damaged) == (3, False)
    events, report = read(tmp_path / "b", EVT3 + words16(high(1), column(3), 7, column(4)))
    assert (events["x"].tolist(), report.unplaced_events) == ([4], 1)
    events, report = read(tmp_path / "c", EVT2 + words32(1, 0x80000001, 2))
    assert (events["y"].tolist(), report.unplaced_events) == ([2], 1)


def test_others_and_continued_are_skipped(tmp_path):
    data = words16(high(1), 7, 0xE123, 0x7111, 0xF222, column(1))
    events, report = read(tmp_path / "a", EVT3 + data)
    assert (len(events), report.unknown_words, report.damaged) == (1, 0, False)
    events, report = read(tmp_path / "b", EVT2 + words32(0x80000001, 0xE1234567, 0xF1234567, 1))
    assert (len(events), report.unknown_words, report.damaged) == (1, 0, False)


@pytest.mark.parametrize(
    ("header", "data", "at"),
    [
        (EVT3, words16(high(1), 7, 0x1000, column(1), 0xB000), 4),
        (EVT2, words32(0x80000001, 0x20000000, 0x10000000, 0xD0000000), 4),
    ],
)
def test_unknown_words_are_counted(tmp_path, header, data, at):
    events, report = read(tmp_path / "a", header + data)
    assert (len(events), report.unknown_words, report.first_damage_byte) == (1, 2, len(header) + at)
    with pytest.raises(
        DamagedRecording, match=rf"byte {len(header) + at}: word 0x\w+ is no event of a sensor"
    ):
        read(tmp_path / "a", header + data, damage="strict")


def test_evt3_row_beyond_the_sensor_drops_events_until_the_next_good_row(tmp_path):
    data = words16(
        *(high(1), 7, column(1), 720, column(2), 0x3000, 0x4FFF, low(1), high(2), column(3), 719, column(4))
    )
    events, report = read(tmp_path / "a", EVT3 + data)
    assert events.tolist() == [(4096, 1, 7, False), (8192, 4, 719, False)]
    assert (report.out_of_sensor, report.first_damage_byte) == (14, len(EVT3) + 6)


def test_x_beyond_the_width_of_the_header(tmp_path):
    data = words16(high(1), 7, column(1279), column(1280), 0x3000 | 1275, 0x4FFF, 0x4001, column(0))
    events, report = read(tmp_path / "a", EVT3 + data)
    assert events["x"].tolist() == [1279, 1275, 1276, 1277, 1278, 1279, 0]
    assert (report.out_of_sensor, report.first_damage_byte) == (1 + 7 + 1, len(EVT3) + 6)
    events, report = read(tmp_path / "b", EVT2 + words32(0x80000001, 1280 << 11, 720, 1279 << 11 | 719))
    assert (events.tolist(), report.out_of_sensor) == ([(64, 1279, 719, False)], 2)
    assert report.first_damage_byte == len(EVT2) + 4


# Triggers


def test_triggers(tmp_path):
    path = tmp_path / "a"
    events, report = read(path, EVT3 + words16(0xA000, high(1), low(2), 0xA301, 7, column(1), 0xA300))
    assert open_recording(path).triggers().tolist() == [(4098, 3, True), (4098, 3, False)]
    assert (report.triggers, len(events), report.unplaced_events) == (2, 1, 0)
    events, report = read(path, EVT2 + words32(0x80000001, 0xA0000000 | 5 << 22 | 17 << 8 | 1))
    assert open_recording(path).triggers().tolist() == [(69, 17, True)]
    assert (report.triggers, len(events)) == (1, 0)


def test_many_triggers_keep_their_order(tmp_path):
    words = [w for k in range(10_000) for w in (high(k // 10), low(k % 10), 7, column(1), 0xA000 | k & 1)]
    (tmp_path / "a").write_bytes(EVT3 + words16(*words))
    triggers = open_recording(tmp_path / "a").triggers()
    k = np.arange(10_000)
    np.testing.assert_array_equal(triggers["t"], (k // 10 << 12) + k % 10)
    np.testing.assert_array_equal(triggers["rising"], k & 1)


# Headers


def test_size_from_format_geometry_and_board(tmp_path):
    word = words32(0x80000001, 3 << 11 | 4)
    for number, (lines, hw) in enumerate(
        [
            (b"% format EVT2;height=10;width=20\n", (10, 20)),
            (b"% evt 2.0\n% geometry 30x40\n", (40, 30)),
            (b"% evt 2.0\n% plugin_name hal_plugin_gen41_evk3\n", (720, 1280)),
            (b"% evt 2.0\n% sensor_generation 3.1\n", (480, 640)),
            (b"% evt 2.0\n% system_ID 49\n", (720, 1280)),
            (b"% evt 2.0\n% geometry nonsense\n", (5, 4)),  # the smallest that holds the event
        ]
    ):
        (tmp_path / str(number)).write_bytes(lines + b"% end\n" + word)
        recording = open_recording(tmp_path / str(number))
        assert (recording.format, recording.sensor_hw, len(recording.read())) == ("evt2", hw, 1)
    assert recording.facts["geometry"] == "nonsense"


@pytest.mark.parametrize("first", [0x80202025, 0x80417825, 0x8A0A2025])
def test_first_word_that_begins_like_a_header_line(tmp_path, first):
    header = b"% evt 2.0\n" + HD
    events, report = read(tmp_path / "a", header + words32(first, 0x0A0A0A0A & 0xFFF, 5))
    assert len(events) == 2
    assert report.bytes_read == report.bytes_total
    events, _ = read(tmp_path / "b", header + b"% end\n" + words32(first, 0x0A0A0A0A & 0xFFF, 5))
    assert len(events) == 2


def test_header_with_text_in_another_language(tmp_path):
    header = "% evt 3.0\n% integrator_name Caméra 東京\n".encode() + HD
    events, _ = read(tmp_path / "a", header + words16(high(1), 7, column(5)))
    assert events.tolist() == [(4096, 5, 7, False)]


@pytest.mark.parametrize("header", [EVT2, EVT3])
def test_half_a_header(tmp_path, header):
    path = tmp_path / "a"
    for size in range(10, len(header)):
        path.write_bytes(header[:size])
        recording = open_recording(path)
        assert len(recording.read()) == 0
        if header[size - 1] != ord("\n"):
            assert recording.report.first_damage_byte == size
            with pytest.raises(DamagedRecording, match=f"byte {size}: the file ends inside its header"):
                open_recording(path, ReadOptions(damage="strict")).read()


def test_header_only(tmp_path):
    events, report = read(tmp_path / "a", EVT3)
    assert (len(events), report.damaged, report.notes) == (0, False, ["no events: no whole word in the file"])


@pytest.mark.parametrize("lines", [b"% evt 4.0\n", b"% format HISTO3D\n", b"% plugin_name x\n"])
def test_other_encodings_are_refused_by_name(tmp_path, lines):
    (tmp_path / "a").write_bytes(lines + b"% end\n" + bytes(64))
    with pytest.raises(UnknownFormat, match=r"Prophesee RAW file whose header names .*, expected EVT 2\.0"):
        identify(tmp_path / "a")


# Damage


@pytest.mark.parametrize(("header", "encode", "size"), [(EVT2, encode_evt2, 4), (EVT3, encode_evt3, 2)])
def test_cut_inside_a_word(tmp_path, header, encode, size):
    events = random_events(1, 50, sensor_hw=(720, 1280), span_us=5000)
    data = header + encode(events)
    found, report = read(tmp_path / "a", data[:-1])
    np.testing.assert_array_equal(found, events[:-1])
    assert (report.partial_records, report.first_damage_byte) == (1, len(data) - size)
    with pytest.raises(
        DamagedRecording, match=f"byte {len(data) - size}: the file ends inside a word, {size - 1}"
    ):
        read(tmp_path / "a", data[:-1], damage="strict")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("header", "encode"), [(EVT2, encode_evt2), (EVT3, encode_evt3)])
def test_overwritten_bytes(tmp_path, header, encode, seed):
    """Whatever 100 bytes are, no event is beyond the sensor, and those before and behind are as they were."""
    rng = np.random.default_rng(seed)
    events = random_events(seed, 3000, sensor_hw=(720, 1280), span_us=200_000)
    data = bytearray(header + encode(events))
    at = len(header) + 4000
    data[at : at + 100] = rng.integers(0, 256, 100, np.uint8).tobytes()
    found, report = read(tmp_path / "a", bytes(data))
    assert report.damaged
    assert at - 4 <= report.first_damage_byte < at + 100
    assert found["x"].max() < 1280
    assert found["y"].max() < 720
    np.testing.assert_array_equal(found[:400], events[:400])
    np.testing.assert_array_equal(found[-1000:], events[-1000:])
    for max_events in (1, 13, 999):
        again, chunked = read_chunks(tmp_path / "a", ReadOptions(), max_events)
        np.testing.assert_array_equal(again, found)
        assert chunked == report.as_dict()


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_noise_is_read_without_end_or_beyond(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, 100_001, np.uint8).tobytes()
    header = {"evt2": EVT2, "evt3": EVT3}[name]
    found, report = read(tmp_path / "a", header + noise)
    assert report.unknown_words > 0
    assert (
        report.bytes_read + report.partial_records * ((100_001) % {"evt2": 4, "evt3": 2}[name])
        == report.bytes_total
    )
    if len(found):
        assert found["x"].max() < 1280
        assert found["y"].max() < 720


@pytest.mark.parametrize("name", ["evt2", "evt21", "legacy", "evt3"])
@pytest.mark.parametrize("change", [-3, -1, 1, 5, 203])
def test_salvage_gets_in_step_again_where_bytes_are_missing_or_too_many(tmp_path, name, change):
    events = random_events(9, 3000, sensor_hw=(720, 1280), span_us=200_000)
    header, encode = {
        "evt2": (EVT2, encode_evt2),
        "evt21": (EVT21, encode_evt21),
        "legacy": (LEGACY, lambda events: turned(encode_evt21(events))),
        "evt3": (EVT3, encode_evt3),
    }[name]
    content = bytearray(header + encode(events))
    at = len(header) + 6001
    if change < 0:
        del content[at : at - change]
    else:
        content[at:at] = np.random.default_rng(change).integers(0, 256, change, np.uint8).tobytes()
    found, report = read(tmp_path / "a", bytes(content), damage="salvage")
    np.testing.assert_array_equal(found[:370], events[:370])
    np.testing.assert_array_equal(found[-1900:], events[-1900:])
    assert abs(len(found) - 3000) < 200
    assert report.bytes_skipped > 0
    assert report.bytes_read + report.bytes_skipped == report.bytes_total
    assert at - 8 <= report.first_damage_byte < at + 400
    for max_events in (1, 97):
        again, chunked = read_chunks(tmp_path / "a", ReadOptions(damage="salvage"), max_events)
        np.testing.assert_array_equal(again, found)
        assert chunked == report.as_dict()


@pytest.mark.parametrize(("header", "encode"), [(EVT2, encode_evt2), (EVT3, encode_evt3)])
def test_salvage_of_overwritten_bytes_skips_none_and_equals_skip(tmp_path, header, encode):
    events = random_events(2, 3000, sensor_hw=(720, 1280), span_us=200_000)
    content = bytearray(header + encode(events))
    content[4000:4100] = np.random.default_rng(2).integers(0, 256, 100, np.uint8).tobytes()
    skipped, report = read(tmp_path / "a", bytes(content))
    found, salvaged = read(tmp_path / "a", bytes(content), damage="salvage")
    np.testing.assert_array_equal(found, skipped)
    assert salvaged == report
    assert report.damaged


# Bookmarks


@pytest.mark.parametrize("damage", ["skip", "salvage"])
@pytest.mark.parametrize("name", ["evt2", "evt21", "evt3"])
def test_going_on_from_a_bookmark_gives_the_rest_and_the_whole_report(tmp_path, name, damage):
    """Rows of events, so that chunks end inside vectors; damage before and behind the bookmark."""
    rng = np.random.default_rng(3)
    events = random_events(3, 4000, sensor_hw=(720, 1280), span_us=10)
    events["t"] = np.arange(4000) // 30 * 70_000
    events["y"] = np.arange(4000) // 30
    events["p"] = np.arange(4000) // 30 % 2
    events["x"] = np.arange(4000) % 30 * 2 + 5
    path = tmp_path / "a"
    write_recording(path, events, format=name, sensor_hw=(720, 1280))
    content = bytearray(path.read_bytes())
    for at in (600, 1500, len(content) - 700):
        content[at : at + 11] = rng.integers(0, 256, 11, np.uint8).tobytes()
    del content[1000:1003], content[-403:-400]
    path.write_bytes(content)
    options = ReadOptions(damage=damage)
    whole, report = read_chunks(path, options, 97)
    done, marks = 0, []
    recording = open_recording(path, options)
    for chunk in recording.decode_chunks(max_events=97):
        done += len(chunk)
        marks.append((done, recording.bookmark()))
    for done, mark in marks[::3]:
        again = open_recording(path, options)
        rest = [whole[:0], *(chunk.copy() for chunk in again.decode_from(mark, max_events=31))]
        np.testing.assert_array_equal(np.concatenate(rest), whole[done:])
        assert again.report.as_dict() == report


# Writers


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_pauses_and_late_starts_are_written(tmp_path, name):
    events = random_events(0, 5, sensor_hw=(720, 1280), span_us=10)
    events["t"] = [10**9, 10**9 + 5, 10**9 + 2**25, 2**36, 2**36 + 2**35]
    write_recording(tmp_path / "a", events, format=name, sensor_hw=(720, 1280))
    recording = open_recording(tmp_path / "a")
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.report.backward_steps == 0


@pytest.mark.parametrize("name", ["evt2", "evt3"])
@pytest.mark.parametrize("times", [[-1, 5], [2**34, 2**34 - 1], [0, 2**62]])
def test_times_that_cannot_come_back_are_refused(tmp_path, name, times):
    events = random_events(0, 2, sensor_hw=(720, 1280), span_us=10)
    events["t"] = times
    with pytest.raises(ConfigError, match=r"do not fit EVT .* or subtract the first time"):
        write_recording(tmp_path / "a", events, format=name, sensor_hw=(720, 1280))


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_sensor_of_more_than_11_bits_is_refused(tmp_path, name):
    events = random_events(0, 2, sensor_hw=(720, 1280), span_us=10)
    with pytest.raises(ConfigError, match="a sensor of 720x3000 does not fit EVT"):
        write_recording(tmp_path / "a", events, format=name, sensor_hw=(720, 3000))


@pytest.mark.parametrize("max_events", [1, 5, 12, 1000])
def test_written_rows_are_vectors_and_come_back(tmp_path, max_events):
    rng = np.random.default_rng(0)
    events = random_events(0, 3000, sensor_hw=(720, 1280), span_us=10)
    events["t"] = np.arange(3000) // 30 * 7
    events["y"] = np.arange(3000) // 30
    events["p"] = np.arange(3000) // 30 % 2
    events["x"] = np.concatenate([np.sort(rng.permutation(1280 if k % 2 else 40)[:30]) for k in range(100)])
    write_recording(tmp_path / "a", events, format="evt3", sensor_hw=(720, 1280))
    assert (tmp_path / "a").stat().st_size < 2.0 * len(events)
    found, _ = read_chunks(tmp_path / "a", ReadOptions(), max_events)
    np.testing.assert_array_equal(found, events)


# EVT 2.1


EVT21 = b"% evt 2.1\n% format EVT21;endianness=little;height=720;width=1280\n% end\n"
LEGACY = EVT21.replace(b"little", b"legacy")


def words64(*words):
    return struct.pack(f"<{len(words)}Q", *words)


def turned(words):
    """The same words with their upper halves first."""
    return np.frombuffer(words, "<u4").reshape(-1, 2)[:, ::-1].tobytes()


def encode_evt21(events):
    words = []
    for t, x, y, p in events.tolist():
        words.append(0x8 << 60 | (t >> 6 & 0xFFFFFFF) << 32)
        words.append(p << 60 | (t & 63) << 54 | (x & ~31) << 43 | y << 32 | 1 << (x & 31))
    return words64(*words)


class TestEvt21(ReaderSuite):
    format = "evt21"
    sensor_hw = (720, 1280)
    span_us = 2**33

    def encode(self, events):
        return EVT21 + encode_evt21(events)


class TestEvt21Legacy(TestEvt21):
    def encode(self, events):
        return LEGACY + turned(encode_evt21(events))


def test_evt21_word_gives_an_event_for_each_bit(tmp_path):
    word = 1 << 60 | 9 << 54 | 1248 << 43 | 700 << 32 | 0x80000005
    data = words64(0x8 << 60 | 2 << 32, word)
    for header, given in ((EVT21, data), (LEGACY, turned(data))):
        (tmp_path / "a").write_bytes(header + given)
        for count in (None, 1, 2):
            recording = open_recording(tmp_path / "a")
            events = np.concatenate([chunk.copy() for chunk in recording.chunks(count=count)])
            assert events.tolist() == [(137, x, 700, True) for x in (1248, 1250, 1279)]
            assert recording.facts["endianness"] == ("little" if header == EVT21 else "legacy")


def test_evt21_column_beyond_the_width(tmp_path):
    header = EVT21.replace(b"1280", b"1270")
    data = words64(0x8 << 60, 1248 << 43 | 0xFFFFFFFF, 720 << 32 | 3, 0x3 << 60, 5 << 32 | 1)
    events, report = read(tmp_path / "a", header + data)
    assert events["x"].tolist() == [*range(1248, 1270), 0]
    assert (report.out_of_sensor, report.unknown_words) == (10 + 2, 1)
    assert report.first_damage_byte == len(header) + 8


def test_evt21_triggers(tmp_path):
    data = words64(0x8 << 60 | 1 << 32, 0xA << 60 | 3 << 54 | 6 << 40 | 1 << 32, 0xE << 60, 0xF << 60)
    (tmp_path / "a").write_bytes(EVT21 + data)
    assert open_recording(tmp_path / "a").triggers().tolist() == [(67, 6, True)]


@pytest.mark.parametrize(
    ("lines", "legacy"),
    [
        (b"% endianness legacy\n", True),
        (b"% endianness little\n% system_ID 49\n", False),
        (b"% integrator_name Prophesee\n% system_ID 49\n", True),  # EVK3, before the EVK2 Saphir
        (b"% integrator_name Prophesee\n% system_ID 64\n", False),  # GenX320
        (b"% integrator_name Other\n% system_ID 49\n", False),
        (b"", False),
    ],
)
def test_evt21_endianness_that_the_format_line_does_not_say(tmp_path, lines, legacy):
    """As OpenEB takes it, where the words make sense both ways: row 0, column 0, all of them at once."""
    header = b"% evt 2.1\n% geometry 1280x720\n" + lines + b"% end\n"
    both_ways = words64(0x80000005_80000005, 0x00000001_00000001)
    (tmp_path / "a").write_bytes(header + both_ways)
    assert open_recording(tmp_path / "a").facts["endianness"] == ("legacy" if legacy else "little")


@pytest.mark.parametrize("board", [b"", b"% system_ID 49\n"])
def test_evt21_endianness_by_the_words_where_only_one_makes_sense(tmp_path, board):
    events = random_events(0, 500, sensor_hw=(720, 1280), span_us=10_000)
    header = b"% evt 2.1\n% geometry 1280x720\n" + board + b"% end\n"
    for data in (encode_evt21(events), turned(encode_evt21(events))):
        found, report = read(tmp_path / "a", header + data)
        np.testing.assert_array_equal(found, events)
        assert not report.damaged


def test_evt21_unknown_endianness_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(EVT21.replace(b"little", b"middle") + words64(1))
    with pytest.raises(UnknownFormat, match="endianness 'middle', expected legacy or little"):
        open_recording(tmp_path / "a")


@pytest.mark.parametrize("endianness", ["little", "legacy"])
def test_evt21_is_written_either_way(tmp_path, endianness):
    events = random_events(0, 3000, sensor_hw=(720, 1280), span_us=10)
    events["t"] = np.arange(3000) // 30 * 7
    events["y"] = np.arange(3000) // 30
    events["p"] = np.arange(3000) // 30 % 2
    events["x"] = np.arange(3000) % 30 * 2 + 5
    write_recording(tmp_path / "a", events, format="evt21", sensor_hw=(720, 1280), endianness=endianness)
    assert (tmp_path / "a").stat().st_size < 1.5 * len(events)
    recording = open_recording(tmp_path / "a")
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.facts["endianness"] == endianness
    with pytest.raises(ConfigError, match="endianness 'big' is unknown"):
        write_recording(tmp_path / "b", events, format="evt21", sensor_hw=(720, 1280), endianness="big")
