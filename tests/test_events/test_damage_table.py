"""Damage and awkward clocks, one row each: what policies keep and report, and the exit codes of commands."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from suites.reader_suite import random_events
from typer.testing import CliRunner

from events.cli.program import app
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE
from events.writers.registry import write_recording

SOUND, PROBLEM, DAMAGED = 0, 1, 3
HW = (128, 128)
EVENTS = random_events(3, 400, sensor_hw=HW, span_us=50_000)
# Each at another time, so that a file that is cut or overwritten says which are left.
EVENTS["t"] += np.arange(len(EVENTS))


def shifted(first_us: int) -> np.ndarray:
    """Return events whose times start elsewhere."""
    events = EVENTS.copy()
    events["t"] += first_us - events["t"][0]
    return events


def stepping_back() -> np.ndarray:
    """Return events, the second half 2 ms earlier than it was."""
    events = EVENTS.copy()
    events["t"] = np.arange(len(events)) * 100 + 5000
    events["t"][200:] -= 2000
    return events


def written(path, format: str, events: np.ndarray = EVENTS, **details) -> bytes:
    """Return the bytes of a recording."""
    write_recording(path, events, format=format, sensor_hw=HW, **details)
    return path.read_bytes()


def overwritten(data: bytes, at: int, byte: bytes = b"\xff") -> bytes:
    return data[:at] + byte * 100 + data[at + 100 :]


def with_capacity(path) -> bytes:
    """Return AEDAT 3.1 whose first packet has room for more events than it has."""
    data = bytearray(written(path, "aedat3"))
    packet = data.index(b"#!END-HEADER\r\n") + len(b"#!END-HEADER\r\n")
    struct.pack_into("<i", data, packet + 16, 5000)
    return bytes(data)


def with_invalid(path) -> bytes:
    """Return AEDAT 3.1 whose first ten events are marked invalid."""
    data = bytearray(written(path, "aedat3"))
    packet = data.index(b"#!END-HEADER\r\n") + len(b"#!END-HEADER\r\n")
    for number in range(10):
        data[packet + 28 + 8 * number] &= 0xFE
    return bytes(data)


def with_markers(path) -> bytes:
    """Return 5-byte records whose second half comes after a time overflow marker."""
    data = written(path, "bin40")
    return data[:1000] + bytes([0, 240, 0, 0, 0]) + data[1000:]


def after_marker() -> np.ndarray:
    events = EVENTS.copy()
    events["t"][200:] += 8192
    return events


def evt2_wrap(_path) -> bytes:
    """Return EVT 2 with an event on either side of its wrap after 2^34 us."""
    words = [0x8FFFFFFF, 1 << 28 | 63 << 22 | 5 << 11 | 6, 0x80000000, 1 << 28 | 1 << 22 | 7 << 11 | 8]
    return b"% evt 2.0\n% format EVT2;height=128;width=128\n% end\n" + np.array(words, "<u4").tobytes()


@dataclass
class Row:
    """A damaged or awkward file.

    Attributes:
        make: Its bytes; a path is there to write to.
        codes: Exit codes of `events cat` under strict, skip and salvage.
        kept: The events there should be under skip; a number where only that is known.
        report: What the report should say under skip.
    """

    make: Callable
    codes: tuple[int, int, int]
    kept: np.ndarray | int | None = None
    report: dict = field(default_factory=dict)


LEFT_OUT = (PROBLEM, DAMAGED, DAMAGED)
REFUSED = (PROBLEM, PROBLEM, PROBLEM)
FINE = (SOUND, SOUND, SOUND)
ROWS = {
    "aedat2 cut in a record": Row(
        lambda p: written(p, "aedat2")[:-3], LEFT_OUT, EVENTS[:-1], {"partial_records": 1}
    ),
    "aedat2 header only": Row(lambda p: written(p, "aedat2", EVENTS[:0]), FINE, EVENTS[:0]),
    "empty": Row(lambda p: b"", REFUSED),
    "noise": Row(lambda p: np.random.default_rng(8).bytes(4096), REFUSED),
    "aedat2 overwritten": Row(
        lambda p: overwritten(written(p, "aedat2"), 1000), LEFT_OUT, None, {"bytes_skipped": 0}
    ),
    "aedat2 backward step": Row(
        lambda p: written(p, "aedat2", stepping_back()), FINE, stepping_back(),
        {"backward_steps": 1, "largest_backward_us": 1900},
    ),
    "dat backward step": Row(
        lambda p: written(p, "dat", stepping_back()), FINE, stepping_back(),
        {"backward_steps": 1, "largest_backward_us": 1900, "wraps": 0},
    ),
    "aedat2 wrap": Row(
        lambda p: written(p, "aedat2", shifted(2**32 - 20_000)), FINE, shifted(2**32 - 20_000), {"wraps": 1}
    ),
    "dat wrap": Row(
        lambda p: written(p, "dat", shifted(2**32 - 20_000)), FINE, shifted(2**32 - 20_000), {"wraps": 1}
    ),
    "aedat3 cut in a packet": Row(
        lambda p: written(p, "aedat3")[:-3], LEFT_OUT, EVENTS[:-1], {"partial_records": 1}
    ),
    "aedat3 overflow": Row(
        lambda p: written(p, "aedat3", shifted(2**31 - 20_000)), FINE, shifted(2**31 - 20_000), {"wraps": 1}
    ),
    "aedat3 capacity": Row(with_capacity, FINE, EVENTS),
    "aedat3 invalid": Row(with_invalid, FINE, EVENTS[10:], {"invalid_events": 10}),
    "aedat4 cut in a packet": Row(
        lambda p: written(p, "aedat4", compression="none")[:-3], LEFT_OUT, EVENTS[:-1], {"partial_records": 1}
    ),
    "aedat4 packet damaged": Row(
        lambda p: overwritten(written(p, "aedat4"), 1200), LEFT_OUT, EVENTS[:0], {"damaged_packets": 1}
    ),
    "dat half a header": Row(lambda p: written(p, "dat")[:30], REFUSED),
    "evt3 half a header": Row(lambda p: written(p, "evt3")[:30], LEFT_OUT, 0),
    "evt3 cut in a word": Row(
        lambda p: written(p, "evt3")[:-1], LEFT_OUT, EVENTS[:-1], {"partial_records": 1}
    ),
    "evt3 overwritten": Row(lambda p: overwritten(written(p, "evt3"), 500, b"\x1f"), LEFT_OUT),
    "evt3 wrap": Row(
        lambda p: written(p, "evt3", shifted(2**24 - 20_000)), FINE, shifted(2**24 - 20_000), {"wraps": 1}
    ),
    "evt2 wrap": Row(evt2_wrap, FINE, 2, {"wraps": 1, "t_first_us": 2**34 - 1, "t_last_us": 2**34 + 1}),
    "bin40 cut in a record": Row(
        lambda p: written(p, "bin40")[:-3], LEFT_OUT, EVENTS[:-1], {"partial_records": 1}
    ),
    "bin40 overflow marker": Row(with_markers, FINE, after_marker(), {"special_events": 1}),
    "dat x beyond the width": Row(
        lambda p: written(p, "dat").replace(b"Width 128", b"Width 100"), LEFT_OUT, EVENTS[EVENTS["x"] < 100],
        {"out_of_sensor": int((EVENTS["x"] >= 100).sum())},
    ),
    "evt3 x beyond the width": Row(
        lambda p: written(p, "evt3").replace(b"width=128", b"width=100"), LEFT_OUT, EVENTS[EVENTS["x"] < 100],
        {"out_of_sensor": int((EVENTS["x"] >= 100).sum())},
    ),
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ROWS)
def test_row(run, tmp_path, name):
    row = ROWS[name]
    data = row.make(tmp_path / "sound")
    (tmp_path / "a.aedat").write_bytes(data)
    found = []
    for damage, code in zip(("strict", "skip", "salvage"), row.codes, strict=True):
        result = run("cat", "a.aedat", f"{damage}.npz", "--damage", damage)
        assert result.exit_code == code, (damage, result.stderr)
        assert "Traceback" not in result.output
        if code == PROBLEM:
            assert result.stderr.startswith("error: ")
            assert result.stderr.count("\n") == 1
            assert not (tmp_path / f"{damage}.npz").exists()
        else:
            found.append(open_recording(tmp_path / f"{damage}.npz").read())
            assert ("damaged from byte" in result.stderr) == (code == DAMAGED)
    if not found:
        return
    kept = found[-2]  # of skip
    if isinstance(row.kept, np.ndarray):
        np.testing.assert_array_equal(kept, row.kept.astype(EVENT_DTYPE))
    elif row.kept is not None:
        assert len(kept) == row.kept
    else:  # what lies before and behind the damage, and some events there is no telling from real ones
        assert np.isin(kept["t"], EVENTS["t"]).mean() > 0.95
        assert 0.8 * len(EVENTS) < len(kept) < len(EVENTS)
        assert kept["x"].max() < HW[1]
        assert kept["y"].max() < HW[0]
    told = run("info", "a.aedat", "--json")
    report = json.loads(told.stdout)["report"]
    damaged = row.codes[1] == DAMAGED
    assert told.exit_code == (DAMAGED if damaged else SOUND)
    assert (report["first_damage_byte"] is not None) == damaged
    assert {name: report[name] for name in row.report} == row.report
    assert report["events"] == len(kept)
