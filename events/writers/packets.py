"""Events on their way into a format of packets, regrouped so that packets do not depend on chunks."""

from collections.abc import Iterable, Iterator

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.event_stream import pieces


def event_packets(
    events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int], packet_events: int
) -> Iterator[np.ndarray]:
    """Yield the events in packets of `packet_events`, the last one shorter; a packet is void at the next.

    Raises:
        ConfigError: An event is outside the sensor.
    """
    packet = np.zeros(packet_events, EVENT_DTYPE)
    filled = 0
    for piece, _ in pieces(events, sensor_hw=sensor_hw):
        at = 0
        while at < len(piece):
            count = min(packet_events - filled, len(piece) - at)
            packet[filled : filled + count] = piece[at : at + count]
            filled += count
            at += count
            if filled == packet_events:
                yield packet
                filled = 0
    if filled:
        yield packet[:filled]
