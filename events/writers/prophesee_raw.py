"""What the writers of Prophesee's RAW encodings share: the header, the clock and the way to the file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from events.errors import ConfigError
from events.readers.prophesee_words import Encoding
from events.writers.atomic import atomic_file
from events.writers.event_stream import PIECE_EVENTS, pieces

LARGEST_SIDE = 1 << 11

# Words TIME_HIGH written at most to reach the next event: 100 days of EVT 3. More would be a file of them.
MOST_HIGHS = 1 << 20

# Positions in the state of an encoder, int64; the first three are the same for all.
STARTED = 0  # 1 once there was an event
HIGH = 1  # last TIME_HIGH written, wraps counted
LOW = 2  # last lower bits written, or -1
ROW = 3  # last row written, or -1
COLUMN = 4  # base of the next vector, or -1
POLARITY = 5  # of the next vector
STATE_LENGTH = 6

# `encode(words of events, words of the file, state)` returns how many words it wrote.
Encode = Callable[[np.ndarray, np.ndarray, np.ndarray], int]


@dataclass(frozen=True)
class WordFormat:
    """How events become words.

    Attributes:
        version: As the header says it, such as `2.0`.
        option: Likewise in its line `format`: a name, and options before those of the sensor.
        encoding: How words become events.
        words_per_event: Words for an event at most, TIME_HIGH not counted.
        encode: Writes the words of events.
    """

    version: str
    option: str
    encoding: Encoding
    words_per_event: int
    encode: Encode


def write_words(
    path: Path,
    events: np.ndarray | Iterable[np.ndarray],
    *,
    sensor_hw: tuple[int, int],
    form: WordFormat,
) -> None:
    """Write a header and the words of all events; the same events give the same bytes.

    Args:
        path: Where to; an existing file is replaced.
        events: EVENT_DTYPE, shape [N], or chunks of it; no time falls over a multiple of what the clock of
            the format can say.
        sensor_hw: Height and width in pixels.
        form: How events become words.

    Raises:
        ConfigError: The events or the sensor do not fit the format.
        EventsError: The file cannot be written.
    """
    height, width = sensor_hw
    encoding, name = form.encoding, f"EVT {form.version}"
    if max(height, width) > LARGEST_SIDE:
        raise ConfigError(
            f"a sensor of {height}x{width} does not fit {name}, whose coordinates have 11 bits; use dat"
        )
    state = np.full(STATE_LENGTH, -1, np.int64)
    state[STARTED] = state[HIGH] = 0
    with atomic_file(path) as stream:
        stream.write(
            f"% evt {form.version}\n% format {form.option};height={height};width={width}\n"
            f"% geometry {width}x{height}\n% end\n".encode()
        )
        for piece, previous in pieces(in_blocks(events), sensor_hw=sensor_hw):
            highs = count_highs(piece["t"], previous, encoding.high_bits, encoding.low_bits, name)
            words = np.empty(highs + form.words_per_event * len(piece), encoding.word_type)
            written = form.encode(np.ascontiguousarray(piece).view(np.int64), words, state)
            stream.write(words[:written].tobytes())


def in_blocks(events: np.ndarray | Iterable[np.ndarray]) -> np.ndarray | Iterator[np.ndarray]:
    """Return the same events in blocks of PIECE_EVENTS, so that chunks leave no trace in the file."""
    return events if isinstance(events, np.ndarray) else blocks_of(events)


def blocks_of(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield blocks of PIECE_EVENTS events, then what remains; copies, as chunks may be views of a buffer."""
    parts: list[np.ndarray] = []
    held = 0
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            part = chunk[at : at + PIECE_EVENTS - held]
            parts.append(part.copy())
            held += len(part)
            at += len(part)
            if held == PIECE_EVENTS:
                yield np.concatenate(parts)
                parts, held = [], 0
    if parts:
        yield np.concatenate(parts)


def count_highs(t: np.ndarray, previous: int | None, high_bits: int, low_bits: int, format_name: str) -> int:
    """Return how many words TIME_HIGH are needed at most.

    Raises:
        ConfigError: A time is negative or too far from the one before, or falls over a wrap of the clock.
    """
    highs = t >> low_bits
    first = 0 if previous is None else previous >> low_bits
    steps = np.diff(highs, prepend=first)
    needed = np.maximum(steps, 0) // largest_step(high_bits) + 1
    over_wrap = (steps < 0) & (highs >> high_bits != (highs - steps) >> high_bits)
    too_far = (steps <= -(1 << (high_bits - 1))) | (needed > MOST_HIGHS)
    if int(t.min()) < 0 or np.any(over_wrap | too_far):
        raise ConfigError(
            f"times from {int(t.min())} to {int(t.max())} us do not fit {format_name}: expected times "
            f"from 0, steps of at most {MOST_HIGHS * largest_step(high_bits) << low_bits} us, and no fall "
            f"over a multiple of {1 << (high_bits + low_bits)} us; sort them, or subtract the first time"
        )
    return int(needed.sum()) + 1


@njit(cache=True, nogil=True)
def largest_step(high_bits: int) -> int:
    """Return the largest step of TIME_HIGH that no reader can take for a fall."""
    return (1 << (high_bits - 1)) - 1


@njit(cache=True, nogil=True)
def next_high(state: np.ndarray, high: int, high_bits: int) -> int:
    """Return the TIME_HIGH to write next on the way to `high`, wraps counted, and go there."""
    last = state[HIGH] if state[STARTED] == 1 else 0
    reached = min(high, last + largest_step(high_bits))
    state[STARTED] = 1
    state[HIGH] = reached
    return reached
