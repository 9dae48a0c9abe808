"""ROS 1 bags, ROS 2 bags in SQLite, and MCAP: one topic of dvs_msgs/EventArray.

The package `rosbags` writes the container, the messages are laid out here as `events.readers.rosbag_messages`
says. A message holds up to `MESSAGE_EVENTS` events of one step of `MESSAGE_US`, its stamp is the time of the
first, and a recording without events is one message without any, which says the sensor. The bag's own clock
never falls, so that the order stays where the clock of the events does.
"""

import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from events.errors import EventsError
from events.recording import EVENT_DTYPE
from events.writers.atomic import atomic_file, parts_folder
from events.writers.event_stream import check_times
from events.writers.packets import event_packets

TOPIC, FRAME = "/dvs/events", b"dvs"
MESSAGE_EVENTS = 1 << 14
MESSAGE_US = 10_000

EVENT = "uint16 x\nuint16 y\n{time} ts\nbool polarity\n"
EVENT_ARRAY = "std_msgs/Header header\nuint32 height\nuint32 width\ndvs_msgs/Event[] events\n"
TYPE = "dvs_msgs/msg/EventArray"

# ROS 1 packs the fields of an event; CDR puts numbers at multiples of their size, which leaves x of every
# event but the first at the end of the 16 bytes before its own.
ROS1_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])
CDR_EVENT = np.dtype(
    {
        "names": ["y", "sec", "nsec", "p", "next_x"],
        "formats": ["<u2", "<u4", "<u4", "u1", "<u2"],
        "offsets": [0, 4, 8, 12, 14],
        "itemsize": 16,
    }
)
# Bytes behind the polarity of the last event.
CDR_REST = 3


def write_bag(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    sensor_hw: tuple[int, int],
    container: str,
) -> None:
    """Write a bag; `container` is `rosbag1`, `rosbag2` (SQLite) or `mcap`. Raises as `write_recording`."""
    try:
        import rosbags  # noqa: F401
    except ImportError:
        raise EventsError(
            f"{path}: ROS bags and MCAP are written with the package rosbags, which is not installed; "
            "install spikeline[ros]"
        ) from None
    ros1 = container == "rosbag1"
    with atomic_file(path) as stream, ExitStack() as kept:
        folder = parts_folder(Path(stream.name))
        folder.mkdir()
        kept.callback(shutil.rmtree, folder)
        bag = folder / "bag"
        with ExitStack() as stack:
            writer = stack.enter_context(open_writer(bag, container))
            connection = writer.add_connection(TOPIC, TYPE, typestore=type_store(ros1=ros1))
            clock_ns = 0
            for part in messages(events, sensor_hw):
                first_us = int(part["t"][0]) if len(part) else 0
                clock_ns = max(clock_ns + 1, first_us * 1000)
                writer.write(connection, clock_ns, serialise(part, first_us, sensor_hw, ros1=ros1))
        written = bag if ros1 else next(child for child in bag.iterdir() if child.suffix != ".yaml")
        with written.open("rb") as source:
            shutil.copyfileobj(source, stream, 1 << 20)


def open_writer(path: Path, container: str) -> Any:
    """Return a writer of a new bag; of ROS 2 that is a folder."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2

    if container == "rosbag1":
        return Writer1(path)
    plugin = StoragePlugin.MCAP if container == "mcap" else StoragePlugin.SQLITE3
    return Writer2(path, version=9, storage_plugin=plugin)


def type_store(*, ros1: bool) -> Any:
    """Return the types of ROS Noetic or Humble, and those of dvs_msgs."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    event = EVENT.format(time="time" if ros1 else "builtin_interfaces/Time")
    store.register(get_types_from_msg(event, "dvs_msgs/msg/Event"))
    store.register(get_types_from_msg(EVENT_ARRAY, TYPE))
    return store


def messages(events: np.ndarray | Iterable[np.ndarray], sensor_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the events of each message, at least one message, which is void at the next."""
    found = False
    for packet in event_packets(events, sensor_hw=sensor_hw, packet_events=MESSAGE_EVENTS):
        found = True
        # ROS 2 has 31 bits of seconds.
        check_times(packet["t"], first=0, stop=(1 << 31) * 1_000_000, format_name="ROS bags")
        steps = packet["t"] // MESSAGE_US
        yield from np.split(packet, np.flatnonzero(steps[1:] != steps[:-1]) + 1)
    if not found:
        yield np.empty(0, EVENT_DTYPE)


def serialise(events: np.ndarray, stamp_us: int, sensor_hw: tuple[int, int], *, ros1: bool) -> bytes:
    """Return an EventArray as ROS 1 packs it, or as CDR."""
    stamp = stamp_us // 1_000_000, stamp_us % 1_000_000 * 1000
    counts = struct.pack("<3I", *sensor_hw, len(events))
    seconds, rest = np.divmod(events["t"], 1_000_000)
    if ros1:
        records = np.zeros(len(events), ROS1_EVENT)
        records["x"] = events["x"]
        head = struct.pack("<4I", 0, *stamp, len(FRAME)) + FRAME
    else:
        records = np.zeros(len(events), CDR_EVENT)
        records["next_x"][:-1] = events["x"][1:]
        frame = struct.pack("<I", len(FRAME) + 1) + (FRAME + b"\0").ljust(
            -(-(len(FRAME) + 1) // 4) * 4, b"\0"
        )
        head = b"\0\1\0\0" + struct.pack("<2I", *stamp) + frame
    records["y"], records["sec"], records["nsec"], records["p"] = (
        events["y"],
        seconds,
        rest * 1000,
        events["p"],
    )
    data = records.tobytes()
    if not ros1 and len(events):
        first = struct.pack("<2H", int(events["x"][0]), int(events["y"][0]))
        data = first + data[len(first) : -CDR_REST]
    return head + counts + data
