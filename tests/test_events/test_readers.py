"""Each format against the shared suite, with bytes made by hand."""

import importlib
import io
import struct
from pathlib import Path

import numpy as np
from suites.reader_suite import ReaderSuite

from events.readers.registry import READERS
from events.recording import EVENT_DTYPE, ReadOptions


def dvs128_address(event) -> int:
    """jAER: x and y count from the other side, and bit 0 is 0 for ON."""
    return (127 - int(event["y"])) << 8 | (127 - int(event["x"])) << 1 | (not event["p"])


class TestAedat1(ReaderSuite):
    format = "aedat1"
    record_bytes = 6
    span_us = 2**31

    def encode(self, events):
        records = (struct.pack(">HI", dvs128_address(e), e["t"] % 2**32) for e in events)
        return b"#!AER-DAT1.0\r\n# by hand\n" + b"".join(records)


class TestAedat2(ReaderSuite):
    format = "aedat2"
    record_bytes = 8
    span_us = 2**31

    def encode(self, events):
        records = (struct.pack(">II", dvs128_address(e), e["t"] % 2**32) for e in events)
        return b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n" + b"".join(records)


class TestDavis(ReaderSuite):
    format = "aedat2"
    record_bytes = 8
    sensor_hw = (260, 346)

    def encode(self, events):
        addresses = (
            (259 - int(e["y"])) << 22 | (345 - int(e["x"])) << 12 | int(e["p"]) << 11 for e in events
        )
        records = (struct.pack(">II", a, e["t"]) for a, e in zip(addresses, events, strict=True))
        return b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346red\r\n" + b"".join(records)


class TestBin40(ReaderSuite):
    format = "bin40"
    record_bytes = 5
    sensor_hw = (34, 34)

    def encode(self, events):
        bits = (int(e["x"]) << 32 | int(e["y"]) << 24 | int(e["p"]) << 23 | int(e["t"]) for e in events)
        return b"".join(value.to_bytes(5, "big") for value in bits)


class TestNpy(ReaderSuite):
    format = "npy"
    record_bytes = 13

    def encode(self, events):
        packed = np.empty(len(events), [("x", "<i2"), ("y", "<i2"), ("ts", "<i8"), ("pol", "?")])
        for name, ours in (("x", "x"), ("y", "y"), ("ts", "t"), ("pol", "p")):
            packed[name] = events[ours]
        file = io.BytesIO()
        np.save(file, packed)
        return file.getvalue()


class TestNpz(ReaderSuite):
    """SpikingJelly's columns: t, x, y, p in arrays of their own."""

    format = "npz"

    def encode(self, events):
        file = io.BytesIO()
        np.savez_compressed(file, **{name: events[name].astype(np.int64) for name in ("t", "x", "y", "p")})
        return file.getvalue()


class TestNpzOneArray(TestNpz):
    """A structured array as the only one, with -1 for OFF and seconds."""

    def encode(self, events):
        array = np.empty(len(events), [("timestamp", "<f8"), ("x", "<u2"), ("y", "<u2"), ("polarity", "i1")])
        array["timestamp"] = events["t"] / 1e6
        array["x"], array["y"] = events["x"], events["y"]
        array["polarity"] = np.where(events["p"], 1, -1)
        file = io.BytesIO()
        np.savez(file, recording=array)
        return file.getvalue()


class TestCsv(ReaderSuite):
    """DV's header, and CR LF."""

    format = "csv"

    def encode(self, events):
        rows = (f"{e['t']},{e['x']},{e['y']},{int(e['p'])}\r\n" for e in events)
        return ("timestamp,x,y,polarity\r\n" + "".join(rows)).encode()


class TestCsvTimeLast(ReaderSuite):
    """Prophesee's order, and -1 for OFF."""

    format = "csv"

    def encode(self, events):
        rows = (f"{e['x']} {e['y']} {1 if e['p'] else -1} {e['t']}\n" for e in events)
        return ("# x y p t\n" + "".join(rows)).encode()


def subclasses(suite: type) -> list[type]:
    """Return all classes below one, those below them too."""
    return [below for child in suite.__subclasses__() for below in [child, *subclasses(child)]]


def test_every_reader_is_held_to_the_suite():
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if "ReaderSuite" in path.read_text():
            importlib.import_module(path.stem)
    tested = {suite.format for suite in subclasses(ReaderSuite) if suite.__name__.startswith("Test")}
    assert tested == set(READERS)


def test_events_are_sixteen_bytes_with_p_at_twelve():
    # The kernels write an event as two words and rely on this.
    assert (EVENT_DTYPE.itemsize, EVENT_DTYPE.fields["p"][1], EVENT_DTYPE.fields["y"][1]) == (16, 12, 10)
    assert ReadOptions().damage == "skip"
