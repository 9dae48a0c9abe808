"""ROS bags with messages of events, serialised by the package rosbags from the messages' definitions."""

from pathlib import Path

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

SENSOR_HW = (120, 160)

_EVENT = "uint16 x\nuint16 y\ntime ts\nbool polarity\n"
_ARRAY = "std_msgs/Header header\nuint32 height\nuint32 width\nEvent[] events\n"
_PACKET = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\nuint64 time_base\nstring encoding\n"
    "bool is_bigendian\nuint8[] events\n"
)


def type_store(*, ros1: bool):
    """Return the types of ROS Noetic or Humble, and those with events."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    event = _EVENT if ros1 else _EVENT.replace("time ts", "builtin_interfaces/Time ts")
    for package in ("dvs_msgs", "prophesee_event_msgs"):
        store.register(get_types_from_msg(event, f"{package}/msg/Event"))
        store.register(
            get_types_from_msg(_ARRAY.replace("Event[]", f"{package}/Event[]"), f"{package}/msg/EventArray")
        )
    store.register(get_types_from_msg(_PACKET, "event_camera_msgs/msg/EventPacket"))
    return store


def event_array(store, events, *, ros1, package="dvs_msgs", sensor_hw=SENSOR_HW, frame="dvs"):
    """Return an EventArray with these events."""
    types = store.types
    time = types["builtin_interfaces/msg/Time"]
    event = types[f"{package}/msg/Event"]
    made = [
        event(
            x=int(e["x"]),
            y=int(e["y"]),
            ts=time(sec=int(e["t"]) // 1_000_000, nanosec=int(e["t"]) % 1_000_000 * 1000),
            polarity=bool(e["p"]),
        )
        for e in events
    ]
    return types[f"{package}/msg/EventArray"](
        header=_header(store, ros1, frame), height=sensor_hw[0], width=sensor_hw[1], events=made
    )


def event_packet(
    store, payload: bytes, encoding: str, *, ros1, time_base=0, sensor_hw=SENSOR_HW, frame="cam"
):
    """Return an EventPacket with this payload."""
    return store.types["event_camera_msgs/msg/EventPacket"](
        header=_header(store, ros1, frame),
        height=sensor_hw[0],
        width=sensor_hw[1],
        seq=7,
        time_base=time_base,
        encoding=encoding,
        is_bigendian=False,
        events=np.frombuffer(payload, np.uint8),
    )


def _header(store, ros1, frame):
    stamp = store.types["builtin_interfaces/msg/Time"](sec=1_600_000_000, nanosec=5)
    fields = {"seq": 3} if ros1 else {}
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame, **fields)


def mono_bytes(events, time_base_us):
    """Encode events as `mono` does, in nanoseconds after a time."""
    packed = (
        events["p"].astype("<u8") << 63
        | events["y"].astype("<u8") << 48
        | events["x"].astype("<u8") << 32
        | ((events["t"] - time_base_us) * 1000).astype("<u8")
    )
    return packed.astype("<u8").tobytes()


def evt3_words(events):
    """Encode each event with all of its words."""
    words = []
    for t, x, y, p in events[["t", "x", "y", "p"]].tolist():
        words += [0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, y, 0x2000 | p << 11 | x]
    return np.array(words, "<u2")


def write_bag(
    folder: Path, kind: str, topics: dict[str, list], *, compression: str | None = None, step_ns: int = 1
) -> Path:
    """Write the messages of each topic to a bag of kind rosbag1, rosbag2 or mcap; return its file.

    Its chunks are packed with bz2 or lz4 (rosbag1), or with zstd (mcap). Between two messages the bag's clock
    goes on by a step.
    """
    store = type_store(ros1=kind == "rosbag1")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "rosbag1":
        path = folder / "recording.bag"
        writer = Writer1(path)
        if compression:
            writer.set_compression(Writer1.CompressionFormat[compression.upper()])
        with writer:
            _add(writer, store, topics, lambda data, name: store.serialize_ros1(data, name), step_ns)
        return path
    plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
    writer = Writer2(folder / "bag", version=9, storage_plugin=plugin)
    if compression:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat[compression.upper()])
    with writer:
        _add(writer, store, topics, lambda data, name: store.serialize_cdr(data, name), step_ns)
    return next(path for path in (folder / "bag").iterdir() if path.suffix in (".db3", ".mcap"))


def _add(writer, store, topics, serialise, step_ns):
    for topic, messages in topics.items():
        name = messages[0].__msgtype__
        connection = writer.add_connection(topic, name, typestore=store)
        for number, message in enumerate(messages):
            writer.write(connection, 1000 + number * step_ns, bytes(serialise(message, name)))
