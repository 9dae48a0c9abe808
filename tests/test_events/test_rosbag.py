"""ROS 1 and 2 bags and MCAP: events of one topic, whatever messages they come in."""

import re
import sys

import numpy as np
import pytest
from suites.bag_files import (
    SENSOR_HW,
    event_array,
    event_packet,
    evt3_words,
    mono_bytes,
    type_store,
    write_bag,
)
from suites.reader_suite import random_events

from events.errors import ConfigError, DamagedRecording, EventsError, UnknownFormat
from events.readers.registry import DEFAULT_OPTIONS, identify, open_recording
from events.readers.rosbag_container import Bag
from events.readers.source import open_source
from events.recording import ReadOptions
from events.writers.registry import write_recording

KINDS = ("rosbag1", "rosbag2", "mcap")
# Times of an EventArray count from 1970.
EPOCH_US = 1_600_000_000_000_000


def some_events(n=3000, seed=0):
    events = random_events(seed, n, sensor_hw=SENSOR_HW, span_us=2_000_000)
    events["t"] += EPOCH_US
    return events


def arrays(kind, events, *, per_message=700, **options):
    ros1 = kind == "rosbag1"
    store = type_store(ros1=ros1)
    parts = [events[at : at + per_message] for at in range(0, len(events), per_message)]
    return [event_array(store, part, ros1=ros1, **options) for part in parts]


def packets(kind, payloads, encoding, **options):
    ros1 = kind == "rosbag1"
    store = type_store(ros1=ros1)
    return [event_packet(store, payload, encoding, ros1=ros1, **options) for payload in payloads]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("package", ["dvs_msgs", "prophesee_event_msgs"])
def test_event_arrays_of_every_container(tmp_path, kind, package):
    events = some_events()
    path = write_bag(tmp_path, kind, {"/dvs/events": arrays(kind, events, package=package)})
    path = path.rename(tmp_path / "recording.anything")
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.format == identify(path) == kind
    assert recording.sensor_hw == SENSOR_HW
    assert recording.facts["topic"] == "/dvs/events"
    assert recording.facts["messages"] == 5
    report = recording.report
    assert (report.events, report.damaged, report.bytes_read) == (3000, False, path.stat().st_size)
    assert (report.t_first_us, report.t_last_us) == tuple(events["t"][[0, -1]])


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd"])
def test_gaps_of_cdr_follow_from_what_lies_before(tmp_path, frame):
    for kind in ("mcap", "rosbag1"):
        events = some_events(5, seed=len(frame))
        path = write_bag(tmp_path / kind, kind, {"/e": arrays(kind, events, per_message=2, frame=frame)})
        np.testing.assert_array_equal(open_recording(path).read(), events)
        payload = mono_bytes(events, EPOCH_US)
        messages = packets(kind, [payload], "mono", frame=frame, time_base=1000 * EPOCH_US)
        path = write_bag(tmp_path / f"{kind}-mono", kind, {"/e": messages})
        np.testing.assert_array_equal(open_recording(path).read(), events)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_evt3_goes_on_across_messages(tmp_path, kind, cut):
    events = random_events(3, 900, sensor_hw=SENSOR_HW, span_us=40_000_000)
    words = evt3_words(events)
    step = cut if cut > 100 else 997 + cut
    payloads = [words[at : at + step].tobytes() for at in range(0, len(words), step)]
    path = write_bag(tmp_path, kind, {"/cam/events": packets(kind, payloads, "evt3")})
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.facts["encoding"] == "evt3"
    assert recording.report.wraps == 2
    assert not recording.report.damaged


@pytest.mark.parametrize("max_events", [1, 7, 699, 700, 701, 10_000])
def test_chunks_concatenate_to_the_whole(tmp_path, max_events):
    events = some_events(1500)
    path = write_bag(tmp_path, "mcap", {"/e": arrays("mcap", events)})
    recording = open_recording(path)
    parts = [chunk.copy() for chunk in recording.decode_chunks(max_events=max_events)]
    assert all(0 < len(part) <= max_events for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), events)
    report = recording.report.as_dict()
    recording.read()
    assert recording.report.as_dict() == report
    with pytest.raises(ConfigError, match="max_events must be at least 1, got 0"):
        next(recording.decode_chunks(max_events=0))


def test_several_topics_have_to_be_chosen_from(tmp_path):
    left, right = some_events(50, seed=1), some_events(60, seed=2)
    topics = {"/left/events": arrays("mcap", left), "/right/events": arrays("mcap", right)}
    path = write_bag(tmp_path, "mcap", topics)
    with pytest.raises(
        ConfigError, match=r"2 topics of events: /left/events, /right/events; choose one \(--topic\)$"
    ):
        open_recording(path)
    for topic, events in (("/left/events", left), ("/right/events", right)):
        np.testing.assert_array_equal(open_recording(path, ReadOptions(topic=topic)).read(), events)
    with pytest.raises(
        ConfigError, match=r"topic '/left/event' is none of .*; did you mean '/left/events'\?"
    ):
        open_recording(path, ReadOptions(topic="/left/event"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bag_without_events_says_what_it_has(tmp_path, kind):
    store = type_store(ros1=kind == "rosbag1")
    texts = [store.types["std_msgs/msg/String"](data="hello")]
    path = write_bag(tmp_path, kind, {"/chatter": texts})
    with pytest.raises(
        UnknownFormat, match=r"without a topic of events, found /chatter \(std_msgs/String\); expected one of"
    ):
        open_recording(path)


def test_encodings_that_are_not_read_are_named(tmp_path):
    path = write_bag(tmp_path, "rosbag1", {"/e": packets("rosbag1", [b"1234"], "libcaer_cmp")})
    with pytest.raises(
        ConfigError, match=r"message 0 has encoding 'libcaer_cmp', expected mono, evt3; convert the bag"
    ):
        open_recording(path).read()


@pytest.mark.parametrize("said", [(0, 0), (0xFFFFFFFF, 5), (9000, 160)])
def test_a_size_that_no_sensor_has_is_taken_from_the_events(tmp_path, said):
    events = some_events(400)
    path = write_bag(tmp_path, "mcap", {"/e": arrays("mcap", events, sensor_hw=said)})
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.sensor_hw == (events["y"].max() + 1, events["x"].max() + 1)


@pytest.mark.parametrize("encoding", ["events", "mono", "evt3"])
def test_events_outside_the_sensor_are_left_out_and_counted(tmp_path, encoding):
    events = some_events(400)
    if encoding == "events":
        messages = arrays("mcap", events, per_message=100)
    elif encoding == "mono":
        payloads = [mono_bytes(events[at : at + 100], EPOCH_US) for at in range(0, 400, 100)]
        messages = packets("mcap", payloads, "mono", time_base=1000 * EPOCH_US)
    else:
        events["t"] -= EPOCH_US
        messages = packets("mcap", [evt3_words(events).tobytes()], "evt3")
    path = write_bag(tmp_path, "mcap", {"/e": messages})
    inside = (events["x"] < 80) & (events["y"] < 60)
    recording = open_recording(path, ReadOptions(sensor_hw=(60, 80)))
    np.testing.assert_array_equal(recording.read(), events[inside])
    assert recording.report.damaged
    assert recording.report.out_of_sensor == 400 - np.count_nonzero(inside)
    with pytest.raises(
        DamagedRecording,
        match=r"byte 0 of its messages: message 0 .* of a sensor of 60x80|outside a sensor of 60x80",
    ):
        open_recording(path, ReadOptions(sensor_hw=(60, 80), damage="strict")).read()


def test_backward_steps_are_kept_and_counted(tmp_path):
    events = some_events(300)
    events["t"] = EPOCH_US + 3 * np.arange(300)
    events["t"][100] -= 50
    events["t"][200] -= 100
    path = write_bag(tmp_path, "rosbag1", {"/e": arrays("rosbag1", events, per_message=100)})
    recording = open_recording(path)
    np.testing.assert_array_equal(recording.read(), events)
    report = recording.report
    assert (report.backward_steps, report.largest_backward_us, report.damaged) == (2, 97, False)


@pytest.mark.parametrize(
    ("encoding", "payload", "events", "said"),
    [
        ("mono", b"12345678" * 2 + b"123", 2, "message 0 ends inside an event"),
        (
            "evt3",
            np.array([0x8001, 0x6002, 3, 0x2004], "<u2").tobytes() + b"1",
            1,
            "message 0 ends inside a word",
        ),
    ],
)
def test_messages_that_end_too_early_keep_their_whole_events(tmp_path, encoding, payload, events, said):
    path = write_bag(tmp_path, "mcap", {"/e": packets("mcap", [payload], encoding)})
    options = ReadOptions(sensor_hw=(1 << 15, 1 << 15))
    recording = open_recording(path, options)
    assert len(recording.read()) == events
    report = recording.report
    assert (report.partial_records, report.first_damage_byte, report.notes) == (1, 0, [said])


def try_to_read(path, options=DEFAULT_OPTIONS):
    """Return the events and the report, or None and the message of the error."""
    try:
        recording = open_recording(path, options)
        return recording.read(), recording.report
    except EventsError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_gives_an_error_or_a_clean_prefix(tmp_path, kind):
    events = some_events(60)
    whole = write_bag(tmp_path, kind, {"/e": arrays(kind, events, per_message=10)}).read_bytes()
    path = tmp_path / "cut"
    for size in range(0, len(whole), max(1, len(whole) // 97)):
        path.write_bytes(whole[:size])
        found, report = try_to_read(path)
        if found is None:
            assert report.startswith(f"{path}: ")
            assert "byte" in report
            assert "\n" not in report
            continue
        np.testing.assert_array_equal(found, events[: len(found)])
        assert len(found) == 60 or report.damaged


@pytest.mark.parametrize("kind", KINDS)
def test_overwritten_bytes_never_crash_or_hang(tmp_path, kind):
    data = bytearray(write_bag(tmp_path, kind, {"/e": arrays(kind, some_events(60))}).read_bytes())
    rng = np.random.default_rng(4)
    path = tmp_path / "noise"
    for _ in range(60):
        at = int(rng.integers(12, len(data) - 16))
        broken = bytes(data[:at]) + rng.bytes(16) + bytes(data[at + 16 :])
        path.write_bytes(broken)
        found, report = try_to_read(path, ReadOptions(format=kind))
        assert found is not None or "\n" not in report


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    path = write_bag(tmp_path, "mcap", {"/e": arrays("mcap", some_events(5))})
    for name in list(sys.modules):
        if name.partition(".")[0] == "rosbags":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EventsError, match=r"which is not installed; install spikeline\[ros\]$"):
        open_recording(path)


def test_real_bag_has_the_counts_of_its_publisher(samples):
    path = samples("rosbag/ecpy_test_events_1.bag")
    recording = open_recording(path)
    events = recording.read()
    assert (recording.facts["messages"], recording.sensor_hw) == (517, (480, 640))
    assert (len(events), int(np.count_nonzero(events["p"]))) == (343_474, 125_183)
    assert int(events["t"][0]) == 7_139_845
    report = recording.report
    assert (report.damaged, report.backward_steps, report.unknown_words) == (False, 0, 0)
    triggers = recording.triggers()
    assert len(triggers) == report.triggers
    assert (np.diff(triggers["t"]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
class TestWriter:
    def some_steps(self, n):
        """Events whose clock steps back, over more than one message."""
        events = some_events(n)
        events["t"][n // 2 :] -= 300_000
        return events

    def test_what_is_written_is_read_back_in_its_order(self, tmp_path, kind):
        events = self.some_steps(40_000)
        write_recording(tmp_path / "a", events, format=kind, sensor_hw=SENSOR_HW)
        recording = open_recording(tmp_path / "a")
        np.testing.assert_array_equal(recording.read(), events)
        assert (recording.format, recording.sensor_hw) == (kind, SENSOR_HW)
        assert recording.report.backward_steps == 1
        assert recording.facts["topic"] == "/dvs/events"
        assert list(tmp_path.iterdir()) == [tmp_path / "a"]

    def test_chunks_do_not_show_in_the_bytes(self, tmp_path, kind):
        events = self.some_steps(20_000)
        for name, given in (("a", events), ("b", iter([events[:123], events[123:17_000], events[17_000:]]))):
            write_recording(tmp_path / name, given, format=kind, sensor_hw=SENSOR_HW)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("n", [0, 1, 2, 5])
    def test_messages_are_those_of_dvs_msgs(self, tmp_path, kind, n):
        """Taken apart by the package rosbags."""
        ros1 = kind == "rosbag1"
        events = some_events(n)
        events["t"] = EPOCH_US + np.arange(n)
        write_recording(tmp_path / "a", events, format=kind, sensor_hw=SENSOR_HW)
        with Bag(open_source(tmp_path / "a"), kind, strict=True).opened() as bag:
            ((connection, _, data),) = bag.messages(bag.connections)
        store = type_store(ros1=ros1)
        message = (store.deserialize_ros1 if ros1 else store.deserialize_cdr)(data, connection.msgtype)
        assert (message.height, message.width, message.header.frame_id) == (*SENSOR_HW, "dvs")
        found = [(e.ts.sec * 1_000_000 + e.ts.nanosec // 1000, e.x, e.y, e.polarity) for e in message.events]
        assert found == events[["t", "x", "y", "p"]].tolist()

    def test_times_that_do_not_fit_are_refused(self, tmp_path, kind):
        events = some_events(3)
        events["t"] = -1
        with pytest.raises(ConfigError, match="times -1 to -1 us do not fit ROS bags"):
            write_recording(tmp_path / "a", events, format=kind, sensor_hw=SENSOR_HW)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("missing", [1, 600, 5000, 30_000])
    def test_cut_off_gives_the_messages_that_are_whole(self, tmp_path, kind, missing):
        events = self.some_steps(20_000)
        write_recording(tmp_path / "a", events, format=kind, sensor_hw=SENSOR_HW)
        data = (tmp_path / "a").read_bytes()
        (tmp_path / "b").write_bytes(data[:-missing])
        found, report = try_to_read(tmp_path / "b")
        if kind == "rosbag2":
            assert found is None
            assert re.search(r"at byte \d+, expected \d+; copy it again, or .* \.recover of sqlite3$", report)
            return
        np.testing.assert_array_equal(found, events[: len(found)])
        assert len(found) == len(events) if missing == 1 else len(found) >= len(events) - missing // 10 - 500
        assert report.damaged
