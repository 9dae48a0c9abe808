"""Decoding records of fixed length under a damage policy: whole blocks while all is well, else one by one."""

import numpy as np
from numba import njit

from events.readers.record_clock import HALF_WRAP_US, OFFSET_US, RAW_US, REPAIR, STARTED, advance
from events.readers.record_layout import (
    BLOCK_RECORDS,
    FIRST_DAMAGE,
    IN_STEP_US,
    LOOKED_AT,
    MARKERS,
    OUT_OF_SENSOR,
    SALVAGE,
    SEARCHED,
    SKIP,
    SKIPPED,
    SPECIAL,
    SYNC_RECORDS,
    RecordLayout,
    decode_block,
    is_marker,
    is_special,
    load,
    pixel,
    put,
    records_in_step,
    suspicion,
)

# Records decoded one by one where one is no plain event; after damage, twice as many each time.
FIRST_BLOCK_RECORDS = 8


@njit(cache=True, nogil=True)
def decode(
    raw: np.ndarray,
    at: int,
    stop: int,
    out: np.ndarray,
    bits: tuple[int, ...],
    clock: np.ndarray,
    counts: np.ndarray,
    policy: int,
    position: int,
    enough: int,
) -> tuple[int, int, bool]:
    """Decode records until the bytes or the room for events run out, or a damaged one is met.

    Records that are no pixel, and damaged ones, do not touch the clock.

    Args:
        raw: Bytes of the file, shape [n], uint8; starts at a multiple of eight in memory.
        at: First byte of the first record.
        stop: First byte no longer to be read.
        out: Room for events, shape [2 m], int64.
        bits: A RecordLayout as a plain tuple: of a named one, Numba takes 10 us to tell the type.
        clock: As in `record_clock`; goes on.
        counts: As in `record_layout`; goes on.
        policy: SKIP leaves damaged records out; SALVAGE does so too, or goes on from where plausible records
            are found; STRICT stops before the first.
        position: Byte of the file at which `raw` begins.
        enough: Bytes that SALVAGE looks at around a doubtful record, where the file has more of them; 0 or
            less where it ends at `stop`, -`enough` bytes are looked at then.

    Returns:
        First byte not decoded, events written, and whether a damaged record is there; under SALVAGE one with
        fewer bytes behind it than are to be looked at.
    """
    layout = RecordLayout(*bits)
    size = layout.record_bytes
    room = len(out) // 2
    limit_us = IN_STEP_US if policy == SALVAGE else HALF_WRAP_US
    longest = BLOCK_RECORDS
    trusted = False  # whether the next record is known to be real, so that its time is not doubted
    n = 0
    while at + size <= stop and n < room:
        count = min(longest, (stop - at) // size, room - n)
        marker_us = counts[MARKERS] * layout.marker_us
        # Repaired sums may reach the end of uint32, which the plain path does not look for.
        plain = longest > FIRST_BLOCK_RECORDS and not trusted and (size != 8 or at % 8 == 0)
        plain = plain and not (clock[REPAIR] == 1 and clock[OFFSET_US] > 0)
        if plain:
            records, events = raw[at : at + count * size], out[2 * n : 2 * (n + count)]
            done = decode_block(records, events, layout, clock, marker_us, limit_us)
            at += done * size
            n += done
            if done == count:
                longest = min(2 * longest, BLOCK_RECORDS)
                continue
            # What is not plain comes again as soon, like markers: little is decoded behind it in vain.
            longest = max(FIRST_BLOCK_RECORDS, min(2 * done, BLOCK_RECORDS))
            count = min(FIRST_BLOCK_RECORDS, count - done)
        else:
            longest = min(2 * longest, BLOCK_RECORDS)
        end = at + count * size
        at, n, damaged = decode_singly(raw, at, end, out, n, layout, clock, counts, policy, position, trusted)
        trusted = False
        if damaged and (policy != SALVAGE or stop - at < enough):
            return at, n, True
        if damaged:
            at, trusted = salvage(raw, at, stop, layout, clock, counts, position, enough)
            longest = FIRST_BLOCK_RECORDS
    return at, n, False


@njit(cache=True, nogil=True)
def decode_singly(
    raw: np.ndarray,
    at: int,
    stop: int,
    out: np.ndarray,
    n: int,
    layout: RecordLayout,
    clock: np.ndarray,
    counts: np.ndarray,
    policy: int,
    position: int,
    trusted: bool,
) -> tuple[int, int, bool]:
    """Decode whole records one by one, from event n on, up to a damaged one; there is room for all."""
    size = layout.record_bytes
    while at < stop:
        address, stored = load(raw, at, layout)
        raw_us = np.int64(stored) + counts[MARKERS] * layout.marker_us
        x, y, p = pixel(address, layout)
        bad = suspicion(address, x, y, layout) != 0
        if policy == SALVAGE and not trusted and clock[STARTED] == 1:
            step = raw_us - clock[RAW_US]
            bad = bad or step < 0 or step > IN_STEP_US
        if not bad:
            put(out, n, advance(clock, raw_us), x, y, p)
            n += 1
        elif is_special(address, layout):
            counts[SPECIAL] += 1
            counts[MARKERS] += is_marker(address, layout)
        elif policy != SKIP:
            return at, n, True
        else:
            counts[OUT_OF_SENSOR] += 1
            note_damage(counts, position + at)
        trusted = False
        at += size
    return at, n, False


@njit(cache=True, nogil=True)
def note_damage(counts: np.ndarray, position: int) -> None:
    """Remember where in the file the first damage is."""
    counts[FIRST_DAMAGE] = position if counts[FIRST_DAMAGE] < 0 else counts[FIRST_DAMAGE]


@njit(cache=True, nogil=True)
def salvage(
    raw: np.ndarray,
    at: int,
    stop: int,
    layout: RecordLayout,
    clock: np.ndarray,
    counts: np.ndarray,
    position: int,
    enough: int,
) -> tuple[int, bool]:
    """Decide what the doubtful record at a byte is, by the first run of plausible records after it.

    Where that run is out of step with the records so far, bytes are missing or too many: go there.
    Otherwise the record is where it should be. Its address may be no pixel, or its time may be out of
    order with the run: then it is left out. What remains is a pause of the camera, or a step back of its
    clock with which the run begins.

    Returns:
        First byte of the next record, and whether that is known to be real.
    """
    size = layout.record_bytes
    search_stop = min(stop, at + abs(enough))
    found = find_run(raw, at, search_stop, layout, counts, position, enough <= 0 and search_stop == stop)
    if found >= 0 and (found - at) % size != 0:
        note_damage(counts, position + at)
        counts[SKIPPED] += found - at
        return found, False
    if records_in_step(raw, at, stop, 1, layout) == 0:
        note_damage(counts, position + at)
        counts[OUT_OF_SENSOR] += 1
        return at + size, False
    previous = clock[RAW_US] - counts[MARKERS] * layout.marker_us
    if found > at and not in_order(raw, at, found, previous, layout):
        note_damage(counts, position + at)
        counts[SKIPPED] += size
        return at + size, False
    return at, True


@njit(cache=True, nogil=True)
def find_run(
    raw: np.ndarray,
    at: int,
    stop: int,
    layout: RecordLayout,
    counts: np.ndarray,
    position: int,
    at_end: bool,
) -> int:
    """Return the first byte before `stop` from which SYNC_RECORDS records are in step, or -1.

    Bytes are not looked at again where no run begins, or noise would take the square of its length. Where
    the file ends at `stop`, half as many records will do if they end with it.
    """
    size = layout.record_bytes
    first = at = max(at, counts[SEARCHED] - position)
    found = False
    while not found and at + SYNC_RECORDS * size <= stop:
        found = records_in_step(raw, at, stop, SYNC_RECORDS, layout) == SYNC_RECORDS
        at += not found
    while not found and at_end and at + SYNC_RECORDS * size // 2 <= stop:
        wanted, rest = divmod(stop - at, size)
        found = rest == 0 and records_in_step(raw, at, stop, wanted, layout) == wanted
        at += not found
    if at_end and not found:
        at = max(at, stop)
    counts[LOOKED_AT] += at - first
    counts[SEARCHED] = position + at
    return at if found else -1


@njit(cache=True, nogil=True)
def in_order(raw: np.ndarray, at: int, last: int, previous: int | np.int64, layout: RecordLayout) -> bool:
    """Whether the clock never falls, from a stored time over the record at `at` to the one at `last`."""
    size = layout.record_bytes
    while at <= last:
        address, stored = load(raw, at, layout)
        x, y, _ = pixel(address, layout)
        if suspicion(address, x, y, layout) == 0:
            # Modulo 2^32, so that a wrap is no fall.
            if (np.int64(stored) - previous) & 0xFFFFFFFF > HALF_WRAP_US:
                return False
            previous = np.int64(stored)
        at += size
    return True
