"""Events on their way into a file: any chunks, checked against what the format can hold."""

from collections.abc import Iterable, Iterator

import numpy as np

from events.errors import ConfigError
from events.recording import EVENT_DTYPE

# Events are checked and encoded in pieces of at most that many.
PIECE_EVENTS = 1 << 18


def pieces(
    events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]
) -> Iterator[tuple[np.ndarray, int | None]]:
    """Yield events in pieces, each with the time of the event before its first (None for the first of all).

    Args:
        events: EVENT_DTYPE, shape [N], or any number of such arrays in order.
        sensor_hw: Height and width in pixels.

    Raises:
        ConfigError: An event is outside the sensor.
    """
    height, width = sensor_hw
    previous = None
    for array in [events] if isinstance(events, np.ndarray) else events:
        if array.dtype != EVENT_DTYPE:
            raise ConfigError(f"events of type {array.dtype} cannot be written; expected {EVENT_DTYPE}")
        for start in range(0, len(array), PIECE_EVENTS):
            piece = array[start : start + PIECE_EVENTS]
            outside = np.flatnonzero((piece["x"] >= width) | (piece["y"] >= height))
            if len(outside):
                event = piece[outside[0]]
                raise ConfigError(
                    f"event at x={event['x']}, y={event['y']} is outside the sensor of {height}x{width}; "
                    "leave it out or write with a larger sensor_hw"
                )
            yield piece, previous
            previous = int(piece["t"][-1])


def check_times(t: np.ndarray, *, first: int, stop: int, format_name: str) -> None:
    """Refuse times that the format cannot hold.

    Raises:
        ConfigError: A time is below `first`, or not below `stop`, in microseconds.
    """
    if len(t) and (int(t.min()) < first or int(t.max()) >= stop):
        raise ConfigError(
            f"times {int(t.min())} to {int(t.max())} us do not fit {format_name}, which holds {first} to "
            f"{stop - 1}; subtract the first time, as events cat --zero-time does"
        )
