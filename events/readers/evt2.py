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

from events.readers.bits import lowest_bit
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

# Words taken together, after that many events in a row.
BLOCK_WORDS = 16
STEADY_EVENTS = 4


def open_evt2(source: Source, options: ReadOptions) -> WordRecording:
    """Open an EVT 2.0 recording."""
    return WordRecording(source, options, encoding=EVT2)


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
    """Decode words from i on into events n to `stop`; return the next word and event, and a code.

    Where events follow each other, words are taken a block at a time; `out` may be written behind `stop`.
    """
    last_block, last_room = len(words) - BLOCK_WORDS, len(out) // 2 - BLOCK_WORDS
    height = np.uint32(state[HEIGHT])
    # No column is inside before the first TIME_HIGH.
    width = np.uint32(state[WIDTH] if state[HIGH] >= 0 else 0)
    base_us = state[BASE_US]
    in_a_row = STEADY_EVENTS
    while i < len(words) and n < stop:
        if in_a_row >= STEADY_EVENTS and i <= last_block and n <= last_room:
            odd = put_block(words, i, out, n, base_us, width, height)
            if odd == 0:  # a branch, which is guessed right, so that the next block need not wait
                i += BLOCK_WORDS
                n += BLOCK_WORDS
            else:
                i += lowest_bit(np.int64(odd))
                n += lowest_bit(np.int64(odd))
                in_a_row = 0
            continue
        word = words[np.uint64(i)]
        if is_inside(word, width, height):
            put_event(word, base_us, out, n)
            n += 1
            in_a_row += 1
        elif word >> np.uint32(28) == TIME_HIGH:
            in_a_row = 0
            high = np.int64(word & np.uint32(0xFFFFFFF))
            if high != state[HIGH]:
                advance_high(state, high)
                base_us = state[BASE_US]
                width = np.uint32(state[WIDTH])
        else:
            in_a_row = 0
            code = take_other(word, i, triggers, state)
            if code != FINE:
                return i, n, code
        i += 1
    return i, n, FINE


@njit(cache=True, nogil=True)
def put_block(
    words: np.ndarray, i: int, out: np.ndarray, n: int, base_us: int, width: np.uint32, height: np.uint32
) -> np.uint32:
    """Write words from i on as if each were an event inside the sensor; return a bit for each that is not.

    BLOCK_WORDS of them, whatever they are: that is what the compiler turns into vector instructions.
    """
    odd = np.uint32(0)
    for j in range(BLOCK_WORDS):
        word = words[np.uint64(i + j)]
        put_event(word, base_us, out, n + j)
        odd |= np.uint32(not is_inside(word, width, height)) << np.uint32(j)
    return odd


@njit(cache=True, nogil=True)
def is_inside(word: np.uint32, width: np.uint32, height: np.uint32) -> bool:
    """Whether a word is an event inside the sensor."""
    x, y = (word >> np.uint32(11)) & np.uint32(0x7FF), word & np.uint32(0x7FF)
    return bool((word >> np.uint32(28) <= 1) & (x < width) & (y < height))


@njit(cache=True, nogil=True)
def put_event(word: np.uint32, base_us: int, out: np.ndarray, n: int) -> None:
    """Write a word as event n."""
    at = np.uint64(2 * n)
    x, y = (word >> np.uint32(11)) & np.uint32(0x7FF), word & np.uint32(0x7FF)
    out[at] = base_us + np.int64((word >> np.uint32(22)) & np.uint32(0x3F))
    out[at + np.uint64(1)] = np.int64(x | (y << np.uint32(16))) | (np.int64(word >> np.uint32(28)) << 32)


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
    name="evt2",
    word_type="<u4",
    decode=decode_evt2,
    high_bits=HIGH_BITS,
    low_bits=LOW_BITS,
    events_per_word=1,
    kinds=0xC503,
)
