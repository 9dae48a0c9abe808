"""ROS bags against the shared suite, in messages of an array of events each."""

import tempfile
from pathlib import Path

from suites.bag_files import event_array, type_store, write_bag
from suites.reader_suite import ReaderSuite

# So many events in a message that the small files of the suite hold several.
MESSAGE_EVENTS = 500


class BagSuite(ReaderSuite):
    """Of a container that the package rosbags writes."""

    # Opening a container takes milliseconds: not every byte, but every kind of place.
    cut_step = 61
    not_seekable = "the package rosbags gives the messages of a topic from the first on"
    byte_named = r"byte \d+ of its messages:"

    def encode(self, events):
        ros1 = self.format == "rosbag1"
        store = type_store(ros1=ros1)
        parts = [events[at : at + MESSAGE_EVENTS] for at in range(0, len(events), MESSAGE_EVENTS)]
        messages = [event_array(store, part, ros1=ros1, sensor_hw=self.sensor_hw) for part in parts]
        with tempfile.TemporaryDirectory() as folder:
            return write_bag(Path(folder), self.format, {"/events": messages}).read_bytes()


class TestRosbag1(BagSuite):
    format = "rosbag1"


class TestRosbag2(BagSuite):
    format = "rosbag2"
    cut_step = 509


class TestMcap(BagSuite):
    format = "mcap"
