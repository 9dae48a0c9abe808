"""The names, types and orders in which public files hold their columns, in `.npy`, `.npz` and text."""

import io

import numpy as np
import pytest

from events.errors import DamagedRecording, UnknownFormat
from events.readers.registry import open_recording
from events.recording import ReadOptions

# t in microseconds, x, y, p
ROWS = [(0, 3, 7, 1), (40, 5, 2, 0), (1_000_040, 0, 9, 1)]
EVENTS = [(t, x, y, bool(p)) for t, x, y, p in ROWS]


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def records(**types) -> bytes:
    """A structured array with the fields in the order given."""
    array = np.zeros(3, list(types.items()))
    first = {"t": 0, "x": 1, "y": 2, "p": 3}
    for name in types:
        array[name] = [row[first[name[0]]] for row in ROWS]
    return npy(array)


def padded() -> bytes:
    types = {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"], "itemsize": 16}
    return npy(np.array(ROWS, np.dtype(types)))


def lines(text: str, *, seconds: bool = False, start: str = "") -> bytes:
    rows = [dict(zip("txyp", row, strict=True)) for row in ROWS]
    if seconds:
        rows = [row | {"t": f"{row['t'] / 1e6:.6f}"} for row in rows]
    return (start + "".join(text.format(**row) + "\n" for row in rows)).encode()


VARIANTS = {
    "x, y, t, p": records(x="<i2", y="<i2", t="<i8", p="?"),
    "t, x, y, p, big-endian": records(t=">u8", x=">u2", y=">u2", p="u1"),
    "x, y, ts, pol": records(x="<u2", y="<u2", ts="<i8", pol="u1"),
    "timestamp, x, y, polarity": records(timestamp="<u8", x="<u2", y="<u2", polarity="?"),
    "expelliarmus": padded(),
    "rpg": lines("{t} {x} {y} {p}", seconds=True),
    "rpg_e2vid": lines("{t} {x} {y} {p}", seconds=True, start="12 10\n"),
    "rpg with a comment": lines("{t} {x} {y} {p}", seconds=True, start="% recorded at noon\n"),
    "Prophesee": lines("{x},{y},{p},{t}", start="%geometry:12,10\n"),
    "Prophesee, older": lines("{x},{y},{p},{t}", start="% Date 2024\n% geometry 12x10\n"),
    "DV": lines("{t},{x},{y},{p}", start="timestamp,x,y,polarity\n"),
    "DV with spaces": lines("{t}, {x}, {y}, {p}", start="timestamp, x, y, polarity\n"),
    "faery": lines("{t},{x},{y},{p}", start="t,x,y,on\n"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_public_variant(tmp_path, name):
    (tmp_path / "a").write_bytes(VARIANTS[name])
    recording = open_recording(tmp_path / "a")
    assert recording.read().tolist() == EVENTS
    assert not recording.report.damaged
    sized = any(tool in name for tool in ("e2vid", "Prophesee"))
    assert recording.sensor_hw == ((10, 12) if sized else (10, 6))


def test_sensor_that_cannot_be_is_not_believed(tmp_path):
    (tmp_path / "a").write_bytes(lines("{x},{y},{p},{t}", start="%geometry:0,99999\n"))
    assert open_recording(tmp_path / "a").sensor_hw == (10, 6)


def test_gesture_of_tonic_is_milliseconds_only_where_that_is_said(tmp_path):
    rows = np.array([(x, y, p, t / 1000) for t, x, y, p in ROWS])
    (tmp_path / "a").write_bytes(npy(rows))
    with pytest.raises(UnknownFormat, match="4 columns without names, so order and unit of time are unknown"):
        open_recording(tmp_path / "a")
    assert open_recording(tmp_path / "a", ReadOptions(columns="x,y,p,t:ms")).read().tolist() == EVENTS


def test_column_short_of_the_others(tmp_path):
    t, x, y, p = np.array(ROWS).T
    with (tmp_path / "a").open("wb") as stream:
        np.savez(stream, t=t, x=x, y=y[:2], p=p)
    with pytest.raises(DamagedRecording, match=r"arrays of different shapes .*'y': \(2,\)"):
        open_recording(tmp_path / "a")


@pytest.mark.parametrize("dtype", ["c16", "S4"])
def test_wrong_type_is_one_line(tmp_path, dtype):
    array = np.zeros(3, [("t", dtype), ("x", "i2"), ("y", "i2"), ("p", "?")])
    (tmp_path / "a").write_bytes(npy(array))
    with pytest.raises(DamagedRecording, match=r"t is of type .*; expected numbers") as caught:
        open_recording(tmp_path / "a").read()
    assert "\n" not in str(caught.value)


def test_rows_that_claim_memory_are_refused(tmp_path):
    header = io.BytesIO()
    fields = [("t", "<i8"), ("x", "<i8"), ("y", "<i8"), ("p", "<i8"), ("rest", "V1000000000")]
    about = {"descr": fields, "fortran_order": False, "shape": (100_000,)}
    np.lib.format.write_array_header_1_0(header, about)
    (tmp_path / "a").write_bytes(header.getvalue() + bytes(100))
    with pytest.raises(DamagedRecording, match=r"rows of 1000000032 bytes; expected events, at most 1024"):
        open_recording(tmp_path / "a")


def test_every_window_of_pedro(samples):
    paths = sorted(samples("pedro").rglob("*.npy"))
    assert len(paths) == 9
    for path in paths:
        array = np.load(path)
        recording = open_recording(path, ReadOptions(columns="t:us,x,y,p", sensor_hw=(260, 346)))
        events = recording.read()
        assert not recording.report.damaged
        for column, name in enumerate("txyp"):
            np.testing.assert_array_equal(
                events[name], array[:, column] > 0 if name == "p" else array[:, column]
            )


def test_falls_of_time_beyond_64_bits_count_alike_from_any_place(tmp_path):
    path = tmp_path / "far.npy"
    t = [2**62, -(2**62) - 5, 2**63 - 1, -(2**63), 10, 4]  # falls of 2**63 + 5, 2**64 - 1 and 6
    events = np.zeros(6, [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])
    events["t"] = t
    path.write_bytes(npy(events))
    reports = []
    for most in (6, 1, 2):
        recording = open_recording(path)
        for _ in recording.decode_chunks(max_events=most):
            pass
        reports.append((recording.report.backward_steps, recording.report.largest_backward_us))
    assert reports == [(3, 6)] * 3
