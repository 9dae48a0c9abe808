"""ROS bags against the shared suite, in messages of an array of events each."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from suites.bag_files import event_array, event_packet, evt3_words, mono_bytes, type_store, write_bag
from suites.reader_suite import ReaderSuite, random_events

from events.errors import DamagedRecording
from events.readers.registry import open_recording
from events.recording import ReadOptions

# So many events in a message that the small files of the suite hold several.
MESSAGE_EVENTS = 500


class BagSuite(ReaderSuite):
    """Of a container that the package rosbags writes."""

    # Opening a container takes milliseconds: not every byte, but every kind of place.
    cut_step = 61
    byte_named = r"byte \d+ of its messages:"

    def encode(self, events):
        ros1 = self.format == "rosbag1"
        store = type_store(ros1=ros1)
        parts = [events[at : at + MESSAGE_EVENTS] for at in range(0, len(events), MESSAGE_EVENTS)]
        messages = [event_array(store, part, ros1=ros1, sensor_hw=self.sensor_hw) for part in parts]
        with tempfile.TemporaryDirectory() as folder:
            return write_bag(Path(folder), self.format, {"/events": messages}).read_bytes()


class CutBagSuite(BagSuite):
    """Of a container that is read without its index too."""

    @pytest.mark.parametrize("damage", ["skip", "salvage"])
    def test_a_cut_leaves_every_message_that_is_whole(self, tmp_path, damage):
        events = self.some_events(60, seed=5)
        ros1 = self.format == "rosbag1"
        store = type_store(ros1=ros1)
        messages = [
            event_array(store, part, ros1=ros1, sensor_hw=self.sensor_hw) for part in np.split(events, 6)
        ]
        data = write_bag(tmp_path, self.format, {"/events": messages}).read_bytes()
        serialise = store.serialize_ros1 if ros1 else store.serialize_cdr
        stored = [bytes(serialise(message, message.__msgtype__)) for message in messages]
        ends = np.array([data.index(message) + len(message) for message in stored])
        path, options = tmp_path / "cut", replace(self.options, damage=damage)
        topic_known = ends[0]
        for size in range(self.cut_step, len(data), self.cut_step):
            path.write_bytes(data[:size])
            whole = np.count_nonzero(ends <= size)
            found, message, report = self.try_to_read(path, options)
            if message is not None:
                assert size < topic_known
                continue
            np.testing.assert_array_equal(found, events[: 10 * whole])
            assert report.first_damage_byte <= size
            assert report.bytes_read + report.bytes_skipped == report.bytes_total == size
            with pytest.raises(
                DamagedRecording, match=rf": byte {report.first_damage_byte}: .* damage 'skip'"
            ):
                open_recording(path, replace(options, damage="strict"))


class TestRosbag1(CutBagSuite):
    format = "rosbag1"


class TestRosbag2(BagSuite):
    format = "rosbag2"
    cut_step = 509


class TestMcap(CutBagSuite):
    format = "mcap"

    def test_a_file_without_chunks_and_index_is_read(self, tmp_path):
        events = random_events(8, 100, sensor_hw=SENSOR_HW, span_us=1000)
        messages = packets([mono_bytes(part, 0) for part in np.split(events, 10)], "mono", ros1=False)
        data = write_bag(tmp_path, "mcap", {"/e": messages}).read_bytes()
        chunk = 17 + int.from_bytes(data[9:17], "little")
        records = chunk + 9 + 28 + 4 + 8
        stop = records + int.from_bytes(data[records - 8 : records], "little")
        path = tmp_path / "plain"
        path.write_bytes(data[:chunk] + data[records:stop])
        recording = open_recording(path)
        np.testing.assert_array_equal(recording.read(), events)
        assert recording.report.notes == [
            f"byte {path.stat().st_size} of the file: the index is missing or wrong"
        ]


SENSOR_HW = (480, 640)


def packets(payloads, encoding, *, ros1):
    store = type_store(ros1=ros1)
    return [event_packet(store, payload, encoding, ros1=ros1, sensor_hw=SENSOR_HW) for payload in payloads]


@pytest.mark.parametrize(
    ("suite", "compression"), [(TestRosbag1, "bz2"), (TestRosbag1, "lz4"), (TestMcap, "zstd")]
)
def test_packed_chunks_give_what_lies_before_a_cut(tmp_path, suite, compression):
    events = random_events(6, 360_000, sensor_hw=SENSOR_HW, span_us=4_000_000)
    payloads = [mono_bytes(part, 0) for part in np.split(events, 12)]
    topics = {"/e": packets(payloads, "mono", ros1=suite is TestRosbag1)}
    data = write_bag(tmp_path, suite.format, topics, compression=compression).read_bytes()
    path = tmp_path / "cut"
    for share in (0.5, 0.8, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        recording = open_recording(path)
        found = recording.read()
        whole, rest = divmod(len(found), 30_000)
        assert rest == 0
        # Of bzip2 a block of 900 kB is there or not.
        assert whole >= int(12 * share) - 4
        np.testing.assert_array_equal(found, events[: len(found)])
        assert recording.report.damaged
        suite().ways_to_go_on(path, ReadOptions(), (50_000, 60_000))


@pytest.mark.parametrize("damage", ["strict", "skip"])
@pytest.mark.parametrize("encoding", ["mono", "evt3"])
def test_bookmarks_lie_anywhere_in_packets(tmp_path, encoding, damage):
    events = random_events(7, 900, sensor_hw=SENSOR_HW, span_us=40_000_000)
    parts = np.split(events, 5)
    if encoding == "mono":
        # Of mono, times reach 4.2 s.
        events["t"] //= 10
        payloads = [mono_bytes(part, 0) for part in parts]
    else:
        words = evt3_words(events)
        payloads = [words[at : at + 701].tobytes() for at in range(0, len(words), 701)]
    messages = packets(payloads, encoding, ros1=False)
    for kind in ("mcap", "rosbag2"):
        path = write_bag(tmp_path / kind, kind, {"/e": messages})
        TestMcap().ways_to_go_on(path, ReadOptions(damage=damage), (7, 100, 1000))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("suite", [TestRosbag1, TestRosbag2, TestMcap])
def test_bookmarks_lie_between_messages_of_one_time(tmp_path, suite, cut):
    events = random_events(8, 300, sensor_hw=SENSOR_HW, span_us=4_000_000)
    messages = packets(
        [mono_bytes(part, 0) for part in np.split(events, 20)], "mono", ros1=suite is TestRosbag1
    )
    path = write_bag(tmp_path, suite.format, {"/e": messages}, step_ns=0)
    np.testing.assert_array_equal(open_recording(path).read(), events)
    if cut and suite is not TestRosbag2:
        path.write_bytes(path.read_bytes()[:-300])
    suite().ways_to_go_on(path, ReadOptions(), (15, 40, 100))


@pytest.mark.parametrize("suite", [TestRosbag1, TestMcap])
def test_damage_met_on_the_way_leaves_the_messages_around_it(tmp_path, suite):
    """The index is whole, and so are the chunks before and after the one that is overwritten."""
    events = random_events(9, 360_000, sensor_hw=SENSOR_HW, span_us=4_000_000)
    payloads = [mono_bytes(part, 0) for part in np.split(events, 12)]
    compression = "bz2" if suite is TestRosbag1 else "zstd"
    topics = {"/e": packets(payloads, "mono", ros1=suite is TestRosbag1)}
    path = write_bag(tmp_path, suite.format, topics, compression=compression)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    recording = open_recording(path)
    found = recording.read()
    report = recording.report
    assert 0 < report.first_damage_byte <= len(data) // 2
    assert 0 < report.bytes_skipped < 2_000_000
    assert len(found) % 30_000 == 0
    assert 90_000 <= len(found) < 360_000
    kept = np.flatnonzero(np.isin(events["t"][::30_000], found["t"][::30_000]))
    np.testing.assert_array_equal(found, events.reshape(12, -1)[kept].ravel())
    assert kept[0] == 0
    suite().ways_to_go_on(path, ReadOptions(), (30_000, 70_000))
    with pytest.raises(
        DamagedRecording, match=rf": byte {report.first_damage_byte}: the bag is cut off or over"
    ):
        open_recording(path, ReadOptions(damage="strict")).read()
