"""AEDAT 4, as iniVation's DV and dv-processing write it.

A header (`events.readers.aedat4_header`), then packets of several streams, one after the other, each packed
on its own (`events.readers.aedat4_walk`, `aedat4_batches`, `aedat4_pass`). One stream of events is
read: the first that the header names, or the one that `ReadOptions.stream` numbers. Packets of frames, IMU
samples and other streams are passed over and counted. Origin top left; times as stored, Unix microseconds in
DV's files.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from events.errors import ConfigError, UnknownFormat
from events.readers.aedat4_compression import COMPRESSIONS, UnpackError, unpacker
from events.readers.aedat4_header import Aedat4Header, field_place, kind_name, load, read_header
from events.readers.aedat4_pass import Aedat4Pass
from events.readers.aedat4_payload import TRIGGERS_MARK, find_vector
from events.readers.aedat4_seek import TablePlace, decode_blocks, index_of
from events.readers.aedat4_table import read_table
from events.readers.aedat4_walk import PacketWalk
from events.readers.conventions import only_plain_conventions
from events.readers.packet_recording import PacketRecording
from events.readers.source import Source
from events.recording import DEFAULT_CHUNK_EVENTS, TRIGGER_DTYPE, Bookmark, FileReport, ReadOptions
from events.seek import SeekIndex

# x and y are int16.
LARGEST_HW = (1 << 15, 1 << 15)
# Packets looked at for the type of a stream where the header does not tell.
PEEKED_PACKETS = 1000

# Types of triggers that are edges: channel and whether the signal rose; channel 0 is the external signal, 1
# the signal generator. The others are pulses and marks of frames. Source: dv-processing, data/trigger.hpp.
EDGES = {1: (0, True), 2: (0, False), 4: (1, True), 5: (1, False)}


def open_aedat4(source: Source, options: ReadOptions) -> "Aedat4Recording":
    """Open an AEDAT 4 file.

    Raises:
        UnknownFormat: It is of another version, holds no stream of events, or is packed in an unknown way.
        DamagedRecording: The header is cut or damaged.
        ConfigError: The options do not fit the file.
        EventsError: The library that unpacks it is not installed.
    """
    only_plain_conventions(options, format_name="AEDAT 4")
    header = read_header(source)
    unpacker(header.compression, source.path)
    stream = pick_stream(source, header, options)
    return Aedat4Recording(source, options, header=header, stream=stream)


def pick_stream(source: Source, header: Aedat4Header, options: ReadOptions) -> int:
    """Return the number of the stream to read.

    Raises:
        ConfigError: The options number one that is not there.
        UnknownFormat: There is none.
    """
    kinds = {number: stream.kind for number, stream in header.streams.items()} or peek_kinds(source, header)
    found = [number for number, kind in kinds.items() if kind == "EVTS"]
    told = ", ".join(f"{number} {kind}" for number, kind in sorted(kinds.items())) or "none"
    if options.stream is not None:
        if options.stream not in found:
            raise ConfigError(
                f"{source.path}: stream {options.stream} holds no events; the streams are {told}"
            )
        return options.stream
    if found:
        return found[0]
    if kinds:
        raise UnknownFormat(f"{source.path}: holds no stream of events; its streams are {told}")
    return 0


def peek_kinds(source: Source, header: Aedat4Header) -> dict[int, str]:
    """Return the type of each stream among the first packets, from their payloads."""
    if source.open_ended:  # what is read there cannot be read again
        source = Source(source.path, len(source.head), source.head)
    walk = PacketWalk(source, header, "skip", FileReport("", "aedat4"))
    unpack = unpacker(header.compression, source.path)
    kinds: dict[int, str] = {}
    try:
        for _ in range(PEEKED_PACKETS):
            packet = walk.next_packet(None)
            if packet is None:
                break
            stream, size, there = packet
            if stream not in kinds:
                walk.window.have(there)
                stored = walk.window.raw[walk.window.at : walk.window.at + there].tobytes()
                with suppress(UnpackError):
                    kinds[stream] = kind_name(bytes(unpack(stored, there < size)[8:12]).decode("latin-1"))
            walk.window.skip(there)
    finally:
        walk.window.close()
    return kinds


class Aedat4Recording(PacketRecording):
    """One stream of events in an AEDAT 4 file."""

    def __init__(self, source: Source, options: ReadOptions, *, header: Aedat4Header, stream: int) -> None:
        """Describe the file; `stream` is the one to read."""
        told = header.streams.get(stream)
        super().__init__(
            source,
            options,
            name="aedat4",
            sensor_hw=told.sensor_hw if told else None,
            largest_hw=LARGEST_HW,
            facts=describe(header, stream),
        )
        self._header = header
        self._stream = stream

    def _pass(self, sensor_hw: tuple[int, int], options: ReadOptions, report: FileReport) -> Aedat4Pass:
        """Return a pass over the file that fills a report."""
        if not self._header.streams:
            report.notes.append("the header does not tell of the streams")
        return Aedat4Pass(self._source, self._header, self._stream, sensor_hw, options.damage, report)

    def stored_index(self) -> SeekIndex | None:
        """Return an index by the file's table of packets; see `Recording.stored_index`.

        Under `strict` everything is read before anything is trusted; where the options name a sensor, the
        table does not tell how many events are on it.
        """
        options = self._options
        if self._source.open_ended or options.damage == "strict" or options.sensor_hw or not self._sensor_hw:
            return None
        table = read_table(self._source, self._header)
        if table is None:
            return None
        report = FileReport(str(self.path), self.format, bytes_total=self._source.size)
        return index_of(table, self._stream, np.array(sorted(self._header.streams)), new_report=report)

    def decode_from(self, place: Bookmark, *, max_events: int = DEFAULT_CHUNK_EVENTS) -> Iterator[np.ndarray]:
        """Yield the events behind a bookmark; see `Recording.decode_from`."""
        if not isinstance(place.at, TablePlace):
            yield from super().decode_from(place, max_events=max_events)
            return
        self.report = place.report.copy()
        self._reading = None  # events are decoded before they are yielded, so there is no bookmark
        with self._pass(self.sensor_hw, self._options, self.report) as reading:
            yield from decode_blocks(reading, place.at, max_events=max_events)
            reading.finish()

    def triggers(self) -> np.ndarray:
        """Return the edges of external signals, shape [n], TRIGGER_DTYPE; channel 1 is the signal generator.

        Reads the file on its own; of several streams of triggers, all of them. Damaged packets are left out.
        """
        wanted = {number for number, stream in self._header.streams.items() if stream.kind == "TRIG"}
        walk = PacketWalk(self._source, self._header, "salvage", FileReport("", self.format))
        unpack = unpacker(self._header.compression, self.path)
        edges: list[tuple[int, int, bool]] = []
        try:
            while packet := walk.next_packet(None):
                stream, size, there = packet
                if stream in wanted and there == size:
                    walk.window.have(there)
                    stored = walk.window.raw[walk.window.at : walk.window.at + there].tobytes()
                    with suppress(UnpackError):
                        edges += decode_edges(bytes(unpack(stored, False)))
                walk.window.skip(there)
        finally:
            walk.window.close()
        return np.array(edges, TRIGGER_DTYPE)


def decode_edges(payload: bytes) -> list[tuple[int, int, bool]]:
    """Return time, channel and direction of the edges in a payload of triggers.

    The vector holds offsets of tables with two fields: 0 time, int64 in microseconds, 1 type, int8.
    """
    raw = np.frombuffer(payload, np.uint8)
    at, count = find_vector(raw, 0, len(raw), TRIGGERS_MARK, 4, False)
    edges = []
    for place in range(at, at + 4 * max(count, 0), 4):
        table = place + load("<I", payload, place)
        try:
            places = [field_place(payload, table, number) for number in range(2)]
            kind = load("<b", payload, places[1]) if places[1] else 0
            time_us = load("<q", payload, places[0]) if places[0] else 0
        except struct.error:
            raise UnpackError("a trigger is damaged") from None
        if kind in EDGES:
            edges.append((time_us, *EDGES[kind]))
    return edges


def describe(header: Aedat4Header, stream: int) -> dict[str, Any]:
    """Return what the header says, for people."""
    told = header.streams.get(stream)
    return {
        "version": "4.0",
        "compression": COMPRESSIONS[header.compression],
        "source": told.source if told else None,
        "stream": stream,
        "streams": [header.streams[number].as_dict() for number in sorted(header.streams)],
        "table_position": header.table_position,
        "header_bytes": header.end,
    }
