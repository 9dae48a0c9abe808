"""dat2mat.m's result, event for event, and the .mat files of test_dvs.m."""

import struct

import numpy as np
import pytest
from scipy.io import loadmat
from suites.reader_suite import read_chunks

from events.errors import ConfigError, DamagedRecording, EventsError
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.mat import write_mat, write_mat_tree
from tests.places import GOLDEN, shared_file

DAT2MAT = ReadOptions(orientation="dat2mat", timestamps="dat2mat", polarity="on1")
NAMES = sorted(path.stem for path in (GOLDEN / "dat2mat").glob("*.npz"))


def as_matrix(events: np.ndarray) -> np.ndarray:
    return np.stack([events[name].astype(np.int64) for name in ("t", "x", "y", "p")], axis=1)


def by_rule(times: list[int]) -> list[int]:
    """The script's repair, written as MATLAB runs it: all in uint32, which saturates."""
    top = 2**32 - 1
    repaired = list(times)
    falls = [i for i in range(len(times) - 1) if times[i] > times[i + 1]]
    for fall, end in zip(falls, [*falls[1:], len(times) - 1], strict=True):
        for i in range(fall + 1, end + 1):
            repaired[i] = min(repaired[fall] + times[i], top)
    return [max(t - repaired[0], 0) for t in repaired]


def test_the_golden_files_are_there():
    assert len(NAMES) >= 9
    assert {"plain", "counter_reset", "cross_2e31", "truncated_tail", "no_header"} <= set(NAMES)


@pytest.mark.parametrize("max_events", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "no_header"])
def test_golden_recording(golden, name, max_events):
    events, _ = read_chunks(golden(f"dat2mat/{name}.aedat"), DAT2MAT, max_events)
    np.testing.assert_array_equal(as_matrix(events), np.load(golden(f"dat2mat/{name}.npz"))["out"])


def test_golden_real_recording():
    events = open_recording(shared_file("golden/dat2mat/real_dvs128_a.aedat"), DAT2MAT).read()
    expected = np.load(shared_file("golden/dat2mat/real_dvs128_a.npz"))["out"]
    np.testing.assert_array_equal(as_matrix(events), expected)


def test_no_header_is_an_error_as_in_the_script(golden):
    assert "error" in np.load(golden("dat2mat/no_header.npz"))
    with pytest.raises(
        DamagedRecording, match=r"no_header\.aedat: has no #!AER-DAT line, where dat2mat\.m stops"
    ):
        open_recording(golden("dat2mat/no_header.aedat"), DAT2MAT)


def test_no_events_is_an_error_as_in_the_script(tmp_path):
    (tmp_path / "a").write_bytes(b"#!AER-DAT2.0\r\n1234567")
    with pytest.raises(DamagedRecording, match=r"a: has no events, where dat2mat\.m stops"):
        open_recording(tmp_path / "a", DAT2MAT)


@pytest.mark.parametrize("max_events", [1, 3, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_repair_by_the_rule_also_where_it_saturates(tmp_path, seed, max_events):
    """Clocks with many falls, whose repaired sums soon reach the end of uint32."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 2**32, 400)).tolist()
    for at in rng.integers(0, 400, 6):
        times[at:] = [t % (int(rng.integers(1, 2**31)) + 1) if seed % 2 else t // 2 for t in times[at:]]
    path = tmp_path / "a"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", 0, t) for t in times))
    events, report = read_chunks(path, DAT2MAT, max_events)
    assert events["t"].tolist() == by_rule(times)
    assert report["backward_steps"] == np.count_nonzero(np.diff(times) < 0) > 0


def test_events_after_the_script_s_limit_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("events.readers.aedat.DAT2MAT_MAX_EVENTS", 5)
    path = tmp_path / "a"
    path.write_bytes(b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", 0, t) for t in range(9)) + b"123")
    recording = open_recording(path, DAT2MAT)
    assert recording.read()["t"].tolist() == [0, 1, 2, 3, 4]
    assert recording.report.notes == ["records after the first 5 are left out, as dat2mat.m does"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "no_header"])
def test_mat_file_holds_the_golden_matrix(golden, tmp_path, name):
    write_mat(golden(f"dat2mat/{name}.aedat"), tmp_path / "1.mat")
    matrix = loadmat(tmp_path / "1.mat")["out1"]
    expected = np.load(golden(f"dat2mat/{name}.npz"))["out"]
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == expected.dtype == np.uint32


def test_mat_file_of_tet_has_six_integer_columns(golden, tmp_path):
    write_mat(golden("dat2mat/corners.aedat"), tmp_path / "1.mat", layout="tet")
    matrix = loadmat(tmp_path / "1.mat")["out1"]
    out = np.load(golden("dat2mat/corners.npz"))["out"].astype(np.int64)
    t, x, y, p = out.T
    np.testing.assert_array_equal(matrix, np.stack([t, 0 * t, 0 * t - 1, x, y, 2 * p - 1], axis=1))
    assert matrix.dtype == np.int32


def make_tree(golden, root):
    """Three recordings in class folders, one of which is noise."""
    for target, source in (("dog/cifar10_dog_7", "plain"), ("cat/cifar10_cat_0", "corners")):
        path = root / f"{target}.aedat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(golden(f"dat2mat/{source}.aedat").read_bytes())
    (root / "dog" / "cifar10_dog_8.aedat").write_bytes(np.random.default_rng(0).bytes(4096))
    (root / "dog" / "labels.txt").write_text("dog\n")


def test_tree_of_mat_files_as_test_dvs_wrote_it(golden, tmp_path):
    make_tree(golden, tmp_path / "raw")
    seen = []
    summary = write_mat_tree(
        tmp_path / "raw", tmp_path / "mat", progress=lambda done, total: seen.append((done, total))
    )
    found = sorted(
        str(path.relative_to(tmp_path / "mat")) for path in (tmp_path / "mat").rglob("*") if path.is_file()
    )
    assert found == ["cat/0.mat", "dog/7.mat"]
    assert (summary.written, summary.skipped, len(summary.failures)) == (2, 0, 1)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    path, reason = summary.failures[0]
    assert path == tmp_path / "raw" / "dog" / "cifar10_dog_8.aedat"
    assert "its 4096 bytes are no recording known here" in reason


def test_tree_goes_on_where_it_was(golden, tmp_path):
    make_tree(golden, tmp_path / "raw")
    write_mat_tree(tmp_path / "raw", tmp_path / "mat")
    (tmp_path / "mat" / "cat" / "0.mat").unlink()
    kept = (tmp_path / "mat" / "dog" / "7.mat").stat().st_mtime_ns
    summary = write_mat_tree(tmp_path / "raw", tmp_path / "mat")
    assert (summary.written, summary.skipped, len(summary.failures)) == (1, 1, 1)
    assert (tmp_path / "mat" / "dog" / "7.mat").stat().st_mtime_ns == kept


def test_two_recordings_for_one_mat_file_are_both_named(golden, tmp_path):
    for name in ("cifar10_dog_7", "7"):
        path = tmp_path / "raw" / f"{name}.aedat"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(golden("dat2mat/corners.aedat").read_bytes())
    summary = write_mat_tree(tmp_path / "raw", tmp_path / "mat")
    assert summary.written == 1
    assert summary.failures[0][0].name == "cifar10_dog_7.aedat"
    assert "7.mat, made from" in summary.failures[0][1]


def test_tree_without_recordings_and_unknown_layout_are_refused(tmp_path):
    with pytest.raises(EventsError, match=r"no AEDAT recording below it; expected \.aedat files"):
        write_mat_tree(tmp_path, tmp_path / "mat")
    with pytest.raises(EventsError, match="absent: no such folder; expected one with class folders"):
        write_mat_tree(tmp_path / "absent", tmp_path / "mat")
    with pytest.raises(ConfigError, match="layout 'matlab' is unknown; known are conv_snn, tet"):
        write_mat_tree(tmp_path, tmp_path / "mat", layout="matlab")
