"""The packed columns of an event store: chunks of events encoded for them, and read from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from events.recording import EVENT_DTYPE
from events.store.event_layout import CHUNK, CHUNK_T0, HIGH, MS_INDEX, PACKED_COLUMNS, SHARD_CHUNKS
from events.store.event_packing import pack_events, pack_high, unpack_events
from events.store.event_shards import FlatColumn, encode_chunk
from events.store.layout import Codec

_NO_HIGH = np.empty(0, np.uint64)


class EventPacker:
    """Encodes chunks of events, in memory that is used again."""

    def __init__(self, types: Mapping[str, str], codec: Codec) -> None:
        """Encode for columns of these types, from `event_layout.column_types`, with a codec preset."""
        self._columns = {name: np.zeros(CHUNK, types[name]) for name in (*PACKED_COLUMNS, HIGH)}
        self._codec = codec

    def encode(self, events: np.ndarray) -> dict[str, bytes | None]:
        """Return a chunk of each column, by name; None where it is all zero and not stored.

        Args:
            events: 1 to CHUNK events, EVENT_DTYPE, contiguous.
        """
        n, words = len(events), events.view(np.uint64)
        for values in self._columns.values():
            values[n:] = 0
        dt, xp, y = (self._columns[name] for name in PACKED_COLUMNS)
        fits = pack_events(words, dt[:n], xp[:n], y[:n])
        encoded: dict[str, bytes | None] = {
            name: encode_chunk(self._columns[name], self._codec) for name in PACKED_COLUMNS
        }
        encoded[HIGH] = None
        if not fits:
            high = self._columns[HIGH]
            pack_high(words, 8 * xp.itemsize - 1, 8 * y.itemsize, high[:n])
            encoded[HIGH] = encode_chunk(high, self._codec)
        return encoded


class EventColumns:
    """The columns of a store, read by recording and position; keeps the chunks read last.

    Attributes:
        ms_index: The index by time.
    """

    def __init__(self, store: Path, types: Mapping[str, str]) -> None:
        """Read the columns of a store, of these types."""
        self._columns = [FlatColumn(store / name, types[name]) for name in PACKED_COLUMNS]
        self._high = FlatColumn(store / HIGH, types[HIGH])
        self.ms_index = FlatColumn(store / MS_INDEX, types[MS_INDEX])
        # Which event of which chunk follows those read last, and the time before it.
        self._next, self._before = (-1, 0), 0

    def read_into(self, out: np.ndarray, row: Mapping[str, Any], position: int) -> None:
        """Fill `out`, shape [n], EVENT_DTYPE, with events of the recording of a manifest row.

        Raises:
            StoreError: A chunk is absent or damaged.
        """
        done = 0
        while done < len(out):
            number, inside = divmod(position + done, CHUNK)
            count = min(CHUNK - inside, len(out) - done)
            self._unpack(row, number, inside, out[done : done + count])
            done += count

    def _unpack(self, row: Mapping[str, Any], number: int, inside: int, out: np.ndarray) -> None:
        """Fill `out` with events of a chunk of a recording from the one at `inside`."""
        place = row["first"]["event_shard"] * SHARD_CHUNKS + number
        if inside == 0:
            before = row[CHUNK_T0][number]
        else:
            if self._next != (place, inside):
                self._unpack(row, number, 0, np.empty(inside, EVENT_DTYPE))
            before = self._before
        end = inside + len(out)
        dt, xp, y = (column.chunk(place)[inside:end] for column in self._columns)
        shards, shard = row["files"][HIGH], number // SHARD_CHUNKS
        high = self._high.chunk_or_none(place) if shards[shard] is not None else None
        high = _NO_HIGH if high is None else high[inside:end]
        self._before = unpack_events(dt, xp, y, high, before, out.view(np.uint64))
        self._next = place, end
