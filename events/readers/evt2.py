"""Prophesee RAW EVT 2.0.

Words of 32 bits, little-endian; bits 31..28 are the type:

| type | meaning | bits |
|---|---|---|
| 0x0, 0x1 | event, OFF or ON | 27..22 time bits 5..0, 21..11 x, 10..0 y |
| 0x8 | TIME_HIGH | 27..0 time bits 33..6 |
| 0xA | EXT_TRIGGER | 27..22 time bits 5..0, 12..8 channel, 0 rising |
| 0xE, 0xF | OTHERS, CONTINUED | no events |

Origin top left. The time wraps after 2^34 us. Source: docs.prophesee.ai, "EVT 2.0 format".
"""

import numpy as np
from numba import njit

from events.readers.conventions import only_plain_conventions
from events.readers.prophesee_clock import (
    BASE_US,
    DAMAGED,
    FINE,
    HEIGHT,
    HIGH,
    OUT_OF_SENSOR,
    RUN_EVENTS,
    TRIGGERS_FULL,
    UNKNOWN,
    UNPLACED,
    WIDTH,
    advance_high,
    count_falls,
    mark_damage,
    put_trigger,
)
from events.readers.prophesee_words import Encoding, WordRecording
from events.readers.source import Source
from events.recording import ReadOptions

TIME_HIGH, EXT_TRIGGER, OTHERS, CONTINUED = 0x8, 0xA, 0xE, 0xF
LOW_BITS = 6
HIGH_BITS = 28


def open_evt2(source: Source, options: ReadOptions) -> WordRecording:
    """Open an EVT 2.0 recording."""
    only_plain_conventions(options, format_name="Prophesee RAW")
    return WordRecording(source, options, name="evt2", encoding=EVT2)


@njit(cache=True, nogil=True)
def decode_evt2(
    words: np.ndarray, out: np.ndarray, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode words until they or the room for events run out, or a damaged one is met; see `Encoding`."""
    room = len(out) // 2
    i = n = 0
    code = FINE
    while code == FINE and i < len(words) and n < room:
        first = n
        i, n, code = decode_run(words, i, out, n, min(room, n + RUN_EVENTS), triggers, state)
        count_falls(out, first, n, state)
    return i, n, code


@njit(cache=True, nogil=True)
def decode_run(
    words: np.ndarray, i: int, out: np.ndarray, n: int, stop: int, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode words from i on into events n to `stop`; return the next word and event, and a code."""
    height = np.uint32(state[HEIGHT])
    # No column is inside before the first TIME_HIGH.
    width = np.uint32(state[WIDTH] if state[HIGH] >= 0 else 0)
    base_us = state[BASE_US]
    while i < len(words) and n < stop:
        word = words[np.uint64(i)]
        kind = word >> np.uint32(28)
        x = (word >> np.uint32(11)) & np.uint32(0x7FF)
        y = word & np.uint32(0x7FF)
        if kind <= 1 and x < width and y < height:
            at = np.uint64(2 * n)
            out[at] = base_us + np.int64((word >> np.uint32(22)) & np.uint32(0x3F))
            out[at + np.uint64(1)] = np.int64(x) | (np.int64(y) << 16) | (np.int64(kind) << 32)
            n += 1
        elif kind == TIME_HIGH:
            high = np.int64(word & np.uint32(0xFFFFFFF))
            if high != state[HIGH]:
                advance_high(state, high)
                base_us = state[BASE_US]
                width = np.uint32(state[WIDTH])
        else:
            code = take_other(word, i, triggers, state)
            if code != FINE:
                return i, n, code
        i += 1
    return i, n, FINE


@njit(cache=True, nogil=True)
def take_other(word: np.uint32, i: int, triggers: np.ndarray, state: np.ndarray) -> int:
    """Take a word that is neither an event inside the sensor nor a time; return a code."""
    kind = word >> np.uint32(28)
    if kind == EXT_TRIGGER:
        time_us = state[BASE_US] + np.int64((word >> np.uint32(22)) & np.uint32(0x3F))
        channel = np.int64((word >> np.uint32(8)) & np.uint32(0x1F))
        if state[HIGH] >= 0 and not put_trigger(
            triggers, state, time_us, channel, np.int64(word & np.uint32(1))
        ):
            return TRIGGERS_FULL
    elif kind <= 1 and state[HIGH] < 0:
        state[UNPLACED] += 1
    elif kind != OTHERS and kind != CONTINUED:
        if mark_damage(state, i):
            return DAMAGED
        state[OUT_OF_SENSOR if kind <= 1 else UNKNOWN] += 1
    return FINE


EVT2 = Encoding(
    word_type="<u4",
    decode=decode_evt2,
    high_bits=HIGH_BITS,
    low_bits=LOW_BITS,
    events_per_word=1,
    kinds=0xC503,
)
