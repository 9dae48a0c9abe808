"""Prophesee RAW EVT 2.1.

Words of 64 bits; bits 63..60 are the type:

| type | meaning | bits |
|---|---|---|
| 0x0, 0x1 | events, OFF or ON | 59..54 time bits 5..0, 53..43 column, 42..32 row, 31..0 which columns |
| 0x8 | TIME_HIGH | 59..32 time bits 33..6 |
| 0xA | EXT_TRIGGER | 59..54 time bits 5..0, 44..40 channel, 32 rising |
| 0xE, 0xF | OTHERS, CONTINUED | no events |

The upper half is a word of EVT 2.0; there is an event in column + i where bit i of the lower half is 1.
Words are little-endian; in `legacy` files the upper half comes before the lower one. Which it is, is the
option `endianness` of the line `% format EVT21;...`, or a line `% endianness`. Where neither is there,
OpenEB takes files of Prophesee's own boards before the EVK2 Saphir for legacy and all others for
little-endian; so here, unless the words make sense one way only.
Source: docs.prophesee.ai, "EVT 2.1 format"; OpenEB, psee_raw_file_header.cpp.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numba import njit

from events.errors import UnknownFormat
from events.readers.bits import lowest_bit
from events.readers.evt2 import HIGH_BITS, LOW_BITS, TIME_HIGH, take_other
from events.readers.prophesee_clock import (
    BASE_US,
    DAMAGED,
    FINE,
    HEIGHT,
    HIGH,
    OUT_OF_SENSOR,
    PENDING,
    PENDING_PIXEL,
    PENDING_US,
    RUN_EVENTS,
    UNPLACED,
    WIDTH,
    Whole,
    advance_high,
    count_falls,
    mark_damage,
    put_pending,
)
from events.readers.prophesee_header import PropheseeHeader
from events.readers.prophesee_words import Encoding, WordRecording
from events.readers.source import Source
from events.recording import ReadOptions

VECTOR = 32

PROPHESEE = "prophesee"
# `system_ID` of the first board whose words are little-endian. Source: OpenEB, device_system_id.h.
EVK2_SAPHIR = 0x37


def open_evt21(source: Source, options: ReadOptions) -> WordRecording:
    """Open an EVT 2.1 recording.

    Raises:
        UnknownFormat: The header names an endianness that is neither `legacy` nor `little`.
    """
    recording = WordRecording(
        source, options, encoding=EVT21, encoding_of=partial(encoding_of, source=source)
    )
    recording.facts["endianness"] = "legacy" if recording.encoding is EVT21_LEGACY else "little"
    return recording


def encoding_of(header: PropheseeHeader, *, source: Source) -> Encoding:
    """Return the encoding by the header, or where it does not say, by the words and the camera's board."""
    named = header.format_options.get("endianness") or header.fields.get("endianness", "")
    if named:
        if named.lower() not in ENCODINGS:
            raise UnknownFormat(
                f"{source.path}: the header names endianness {named!r}, expected legacy or little; correct it"
            )
        return ENCODINGS[named.lower()]
    data = source.head[header.end :][: 1 << 12]
    fitting = [encoding for encoding in (EVT21, EVT21_LEGACY) if encoding.fits(data)]
    if len(fitting) == 1:
        return fitting[0]
    return EVT21_LEGACY if of_old_board(header) else EVT21


def of_old_board(header: PropheseeHeader) -> bool:
    """Whether OpenEB takes the file, which does not say it, for legacy."""
    both = header.fields.get("integrator_name", PROPHESEE)
    integrators = (
        header.fields.get("plugin_integrator_name", both).lower(),
        header.fields.get("camera_integrator_name", both).lower(),
    )
    return integrators == (PROPHESEE, PROPHESEE) and 0 < header.system_id < EVK2_SAPHIR


@njit(cache=True, nogil=True)
def decode_little(
    words: np.ndarray, out: np.ndarray, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode little-endian words; see `Encoding`."""
    return decode_evt21(words, out, triggers, state, 0)


@njit(cache=True, nogil=True)
def decode_legacy(
    words: np.ndarray, out: np.ndarray, triggers: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Decode words whose upper half comes first; see `Encoding`."""
    return decode_evt21(words, out, triggers, state, 32)


@njit(cache=True, nogil=True)
def decode_evt21(
    words: np.ndarray, out: np.ndarray, triggers: np.ndarray, state: np.ndarray, turn: int
) -> tuple[int, int, int]:
    """Decode words, turned by that many bits, until they or the room for events run out, or damage is met."""
    room = len(out) // 2
    n = put_pending(out, 0, room, state)
    count_falls(out, 0, n, state)
    i = 0
    code = FINE
    while code == FINE and i < len(words) and n < room:
        first = n
        i, n, code = decode_run(words, i, out, n, min(room, n + RUN_EVENTS), triggers, state, turn)
        count_falls(out, first, n, state)
    return i, n, code


@njit(cache=True, nogil=True)
def decode_run(
    words: np.ndarray,
    i: int,
    out: np.ndarray,
    n: int,
    stop: int,
    triggers: np.ndarray,
    state: np.ndarray,
    turn: int,
) -> tuple[int, int, int]:
    """Decode words from i on into events n to `stop`; return the next word and event, and a code."""
    n = put_pending(out, n, stop, state)
    height = state[HEIGHT]
    width = state[WIDTH] if state[HIGH] >= 0 else 0  # no column is inside before the first time
    base_us = state[BASE_US]
    while i < len(words) and n < stop:
        word = words[np.uint64(i)]
        upper = np.int64((word >> np.uint64(32 - turn)) & np.uint64(0xFFFFFFFF))
        mask = np.int64((word >> np.uint64(turn)) & np.uint64(0xFFFFFFFF))
        kind = upper >> 28
        if kind <= 1:
            x, y = (upper >> 11) & 0x7FF, upper & 0x7FF
            time_us = base_us + ((upper >> 22) & 0x3F)
            pixel = x | (y << 16) | (kind << 32)
            if x + VECTOR <= width and y < height and n + VECTOR <= len(out) // 2:
                while mask != 0:
                    at = np.uint64(2 * n)
                    out[at] = time_us
                    out[at + np.uint64(1)] = pixel + lowest_bit(mask)
                    n += 1
                    mask &= mask - 1
            else:
                code = take_vector(i, mask, time_us, pixel, state)
                if code != FINE:
                    return i, n, code
                n = put_pending(out, n, stop, state)
        elif kind == TIME_HIGH:
            if upper & 0xFFFFFFF != state[HIGH]:
                advance_high(state, upper & 0xFFFFFFF)
                base_us, width = state[BASE_US], state[WIDTH]
        else:
            code = take_other(np.uint32(upper), i, triggers, state)
            if code != FINE:
                return i, n, code
        i += 1
    return i, n, FINE


@njit(cache=True, nogil=True)
def take_vector(i: int, mask: Whole, time_us: Whole, pixel: Whole, state: np.ndarray) -> int:
    """Take a vector near the end of a row or of the room: leave the events inside the sensor pending."""
    x, y = pixel & 0xFFFF, (pixel >> 16) & 0xFFFF
    inside = np.int64(0)
    for j in range(VECTOR):
        if (mask >> j) & 1:
            if state[HIGH] < 0:
                state[UNPLACED] += 1
            elif x + j < state[WIDTH] and y < state[HEIGHT]:
                inside |= 1 << j
            elif mark_damage(state, i):
                return DAMAGED
            else:
                state[OUT_OF_SENSOR] += 1
    state[PENDING] = inside
    state[PENDING_US] = time_us
    state[PENDING_PIXEL] = pixel
    return FINE


EVT21 = Encoding(
    name="evt21",
    word_type="<u8",
    decode=decode_little,
    high_bits=HIGH_BITS,
    low_bits=LOW_BITS,
    events_per_word=VECTOR,
    kinds=0xC503,
)
EVT21_LEGACY = replace(EVT21, decode=decode_legacy, halves_turned=True)
ENCODINGS = {"little": EVT21, "legacy": EVT21_LEGACY}
