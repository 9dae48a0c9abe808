"""Copies and comparisons of recordings, as functions and as the commands `events cat` and `events diff`."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from suites.reader_suite import random_events
from typer.testing import CliRunner

from events.cat import CatSettings, copy_recording
from events.cli.copy import parse_hot_pixels, parse_time
from events.cli.program import app
from events.compare import compare_recordings
from events.errors import ConfigError
from events.filters.reference import apply_filters
from events.filters.settings import FilterSettings
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.registry import SUFFIXES, WRITERS, format_for, write_recording

HW = (128, 128)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def walk(tmp_path):
    """A recording of 5000 events from 1 s to 3 s with a hot pixel."""
    events = random_events(4, 5000, sensor_hw=HW, span_us=2_000_000)
    events["t"] += 1_000_000
    events["x"][::40], events["y"][::40] = 17, 99
    write_recording(tmp_path / "walk.aedat", events, format="aedat2", sensor_hw=HW)
    return tmp_path / "walk.aedat", events


@pytest.mark.parametrize("format", sorted(WRITERS))
def test_any_format_takes_the_events(run, walk, tmp_path, format):
    path, events = walk
    result = run("cat", path, "copy", "--format", format)
    assert result.exit_code == 0, result.output
    found = open_recording(tmp_path / "copy", ReadOptions(format=format, sensor_hw=HW))
    np.testing.assert_array_equal(found.read(), events)
    assert run("diff", path, "copy", "--sensor", "128x128").exit_code == 0


def test_a_suffix_says_the_format_of_a_new_file():
    assert format_for("a.NPZ") == "npz"
    assert {format_for(f"a{suffix}") for suffix, name in SUFFIXES.items() if name in WRITERS} <= set(WRITERS)
    with pytest.raises(
        ConfigError, match=r"a\.mp4: suffix '\.mp4' says no format that has a writer; known are "
    ):
        format_for("a.mp4")


def test_all_steps_are_those_of_the_definition(run, walk, tmp_path):
    path, events = walk
    options = (
        "--from 1200ms --to 2.5s --crop 10,20,110,120 --polarity flip --hot-pixels 17,99 --dedup "
        "--refractory 200 --denoise 10ms --downsample 2"
    )
    result = run("cat", path, "out.npz", *options.split(), "--json")
    assert result.exit_code == 0, result.output
    expected, report = apply_filters(
        events,
        FilterSettings(
            start_us=1_200_000,
            stop_us=2_500_000,
            crop=(10, 20, 110, 120),
            polarity="flip",
            hot_pixels=((17, 99),),
            dedup=True,
            refractory_us=200,
            background_us=10_000,
            downsample=2,
        ),
    )
    assert 0 < len(expected) < 1000
    copy = open_recording(tmp_path / "out.npz")
    np.testing.assert_array_equal(copy.read(), expected)
    assert copy.sensor_hw == (50, 50)
    summary = json.loads(result.stdout)
    assert summary["removed"] == {
        name: count
        for name, count in report.as_dict().items()
        if count and name not in ("events_in", "events_out")
    }
    assert (summary["events_in"], summary["events_out"]) == (5000, len(expected))


def test_what_was_left_out_is_said(run, walk):
    path, _ = walk
    result = run("cat", path, "out.csv", "--hot-pixels", "auto", "--from", "+0.5s")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "of hot pixels (" in result.stderr
    assert "hot pixels: x=17 y=99\n" in result.stderr
    assert "outside the time range" in result.stderr
    assert "of 5,000 events, 128x128, csv in " in result.stderr


def test_times_from_the_first_event_and_to_zero(run, walk, tmp_path):
    path, events = walk
    assert run("cat", path, "out.npz", "--from", "+500ms", "--to", "+1s", "--zero-time").exit_code == 0
    t = events["t"]
    kept = events[(t >= t[0] + 500_000) & (t < t[0] + 1_000_000)]
    found = open_recording(tmp_path / "out.npz").read()
    np.testing.assert_array_equal(found["t"], kept["t"] - kept["t"][0])
    result = run("diff", path, "out.npz")
    assert result.exit_code == 1


def test_an_empty_result_is_a_recording_all_the_same(run, walk, tmp_path):
    result = run("cat", walk[0], "none.aedat", "--from", "9s")
    assert result.exit_code == 0, result.output
    assert "0 of 5,000 events" in result.stderr
    assert len(open_recording(tmp_path / "none.aedat").read()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--crop 1,2,3", "--crop 1,2,3: expected x0,y0,x1,y1 in pixels"),
        ("--crop 0,0,200,100", "crop 0,0,200,100 reaches beyond the sensor of 128x128"),
        ("--from 1m", "--from 1m: expected whole microseconds, or a time such as"),
        ("--from +1s --to 2s", "--from and --to must both count from the first event"),
        ("--hot-pixels some", "--hot-pixels some: expected auto, a rate such as 500hz, or x,y;x,y"),
        ("--denoise 0", "background_us must be at least 1, got 0"),
        ("--timeout 3", "--timeout belongs to --follow and to pipes"),
        ("--format mp4", "format 'mp4' has no writer; known are "),
    ],
)
def test_wrong_usage_is_code_2_in_one_line_and_writes_nothing(run, walk, tmp_path, options, message):
    result = run("cat", walk[0], "out.npz", *options.split())
    assert result.exit_code == 2, result.output
    assert f"error: {message}" in result.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.aedat"]


def test_damage_is_said_and_strict_writes_nothing(run, walk, tmp_path):
    path, events = walk
    path.write_bytes(path.read_bytes()[:-3])
    result = run("cat", path, "out.npz")
    assert result.exit_code == 3
    assert f"damaged from byte {path.stat().st_size - 5:,} on; `events info` says how" in result.stderr
    np.testing.assert_array_equal(open_recording(tmp_path / "out.npz").read(), events[:-1])
    result = run("cat", path, "strict.npz", "--damage", "strict")
    assert result.exit_code == 1
    assert "ends inside a record" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "walk.aedat"]


@pytest.mark.parametrize("name", ["pipe", "device", "-"])
def test_what_is_no_regular_file_is_never_replaced(run, walk, tmp_path, name):
    if name == "pipe":
        os.mkfifo(tmp_path / name)
    elif name == "device":
        (tmp_path / name).symlink_to("/dev/null")
    result = run("cat", walk[0], name, "--format", "csv")
    assert result.exit_code == 1
    assert result.stderr == f"error: {name}: cannot be written: is no regular file; name a new file\n"
    assert (tmp_path / name).is_fifo() == (name == "pipe")
    assert (tmp_path / name).is_symlink() == (name == "device")


def test_a_link_stays_and_the_file_it_leads_to_is_replaced(run, walk, tmp_path):
    path, events = walk
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.npz").symlink_to("elsewhere/file.npz")
    assert run("cat", path, "link.npz").exit_code == 0
    assert (tmp_path / "link.npz").is_symlink()
    np.testing.assert_array_equal(open_recording(tmp_path / "elsewhere" / "file.npz").read(), events)


def test_hdf5_on_a_full_disk_is_one_line(walk, tmp_path):
    """As every other format; a limit on the size of files stands for the disk, a process for its crash."""
    command = f"ulimit -f 64; {sys.executable} -m events cat walk.aedat out.h5"
    done = subprocess.run(["bash", "-c", command], capture_output=True, **as_program(tmp_path))
    message = "error: out.h5: cannot be written: File too large; check the folder and its free space\n"
    assert (done.returncode, done.stderr) == (1, message)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.aedat"]


def test_triggers_left_out_are_said_and_a_pipe_of_them_can_be_looked_at(run, tmp_path):
    """EVT 2: a time, an event, the edges of two triggers; see `events.readers.evt2`."""
    words = np.array([0x80000001, 0x10000000, 0xA0000000, 0xA0000101], "<u4")
    data = b"% evt 2.0\n% format EVT2;height=128;width=128\n% end\n" + words.tobytes()
    (tmp_path / "a.raw").write_bytes(data)
    result = run("cat", "a.raw", "a.csv")
    assert result.exit_code == 0
    assert "left out: 2 triggers; only events are copied\n" in result.stderr
    command = f"cat a.raw | {sys.executable} -m events info -"
    done = subprocess.run(["bash", "-c", command], capture_output=True, **as_program(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("-\n")
    assert "trigger       2 edges" in done.stdout


def test_a_pipe_that_is_no_recording_is_named_as_it_was_given(tmp_path):
    command = f"printf '%5000s' | {sys.executable} -m events info -"
    done = subprocess.run(["bash", "-c", command], capture_output=True, **as_program(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: -: its 5000 bytes are no recording known here")


def test_memory_does_not_grow_with_the_recording(tmp_path):
    events = random_events(2, 1_500_000, sensor_hw=HW, span_us=3_000_000)
    write_recording(tmp_path / "a", events, format="aedat2", sensor_hw=HW)
    del events
    settings = CatSettings(FilterSettings(background_us=10_000), find_hot=True)
    copy_recording(open_recording(tmp_path / "a"), tmp_path / "warm", settings, format="aedat2")
    tracemalloc.start()
    try:
        summary = copy_recording(open_recording(tmp_path / "a"), tmp_path / "b", settings, format="aedat2")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert summary.events_in == 1_500_000
    assert peak < 16 << 20  # the events alone are 24 MB


def as_program(tmp_path):
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": paths}, "text": True}


def test_standard_input_may_be_a_pipe(walk, tmp_path):
    path, events = walk
    (tmp_path / "walk.gz").write_bytes(gzip.compress(path.read_bytes()))
    command = f"gzip -dc walk.gz | {sys.executable} -m events cat - out.npz --denoise 20ms"
    done = subprocess.run(["bash", "-c", command], capture_output=True, **as_program(tmp_path))
    assert done.returncode == 0, done.stderr
    expected, _ = apply_filters(events, FilterSettings(background_us=20_000))
    np.testing.assert_array_equal(open_recording(tmp_path / "out.npz").read(), expected)


def test_interrupting_a_followed_recording_keeps_what_came(walk, tmp_path):
    path, events = walk
    command = [sys.executable, "-m", "events", "cat", path.name, "out.aedat", "--follow"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, **as_program(tmp_path))
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.aedat.*.partial")) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    message = running.communicate(timeout=60)[1]
    assert running.returncode == 0, message
    np.testing.assert_array_equal(open_recording(tmp_path / "out.aedat").read(), events)


def test_what_killed_copies_left_is_removed_and_what_running_ones_write_is_not(run, walk, tmp_path):
    command = [sys.executable, "-m", "events", "cat", walk[0].name, "out.csv", "--follow"]
    copies = [subprocess.Popen(command, **as_program(tmp_path)) for _ in range(2)]
    deadline = time.monotonic() + 60
    try:
        while len(found := set(tmp_path.glob(".out.csv.*.partial"))) < 2:
            assert time.monotonic() < deadline
            assert [copy.poll() for copy in copies] == [None, None]
            time.sleep(0.05)
        copies[0].kill()
        copies[0].wait(timeout=60)
        result = run("cat", walk[0], "out.csv")
        assert result.exit_code == 0
        assert "removed: 1 unfinished beside out.csv, left by killed copies" in result.stderr
        (running,) = found & set(tmp_path.glob(".out.csv.*"))
        assert json.loads(run("cat", walk[0], "out.csv", "--json").stdout)["leftovers_removed"] == 0
        assert running.exists()
    finally:
        for copy in copies:
            copy.kill()
            copy.wait(timeout=60)
    assert json.loads(run("cat", walk[0], "out.csv", "--json").stdout)["leftovers_removed"] == 1
    assert not list(tmp_path.glob(".out.csv.*"))


def changed(tmp_path, events, **fields):
    other = events.copy()
    for name, values in fields.items():
        other[name] = values
    write_recording(tmp_path / "other.npz", other, format="npz", sensor_hw=HW)
    return tmp_path / "other.npz"


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        (lambda e: {"x": 127 - e["x"]}, "x is mirrored: x_b = width - 1 - x_a"),
        (lambda e: {"y": 127 - e["y"]}, "y is mirrored: y_b = height - 1 - y_a"),
        (lambda e: {"x": e["y"], "y": e["x"].copy()}, "x and y are exchanged"),
        (lambda e: {"p": ~e["p"]}, "polarity is inverted"),
    ],
)
def test_conventions_are_recognised(run, walk, tmp_path, change, explanation):
    path, events = walk
    other = changed(tmp_path, events, **change(events.copy()))
    result = run("diff", path, other)
    assert result.exit_code == 1
    assert f"looks as if {explanation}" in result.stdout
    assert result.stdout.count("looks as if") == 1


def test_a_shift_in_time_is_named_and_may_be_ignored(run, walk, tmp_path):
    path, events = walk
    other = changed(tmp_path, events, t=events["t"] - 123)
    result = run("diff", path, other)
    assert result.exit_code == 1
    assert "t       differs in 5,000 of 5,000" in result.stdout
    assert "B is -123 us from A throughout" in result.stdout
    assert run("diff", path, other, "--ignore-shift").exit_code == 0
    assert run("diff", path, other, "--tolerance", "123us").exit_code == 0
    assert run("diff", path, other, "--tolerance", "122us").exit_code == 1


def test_first_difference_and_counts(run, walk, tmp_path):
    path, events = walk
    other = events.copy()
    other["x"][[3000, 4000]] ^= 1
    other["p"][4000] ^= True
    other = changed(tmp_path, other)
    found = compare_recordings(open_recording(path), open_recording(other))
    assert (found.first_difference, found.same) == (3000, False)
    assert found.differing == {"t": 0, "x": 2, "y": 0, "p": 1}
    assert found.first_a == events[3000].item()
    assert found.explanations == []
    facts = json.loads(run("diff", path, other, "--json").stdout)
    assert (facts["same"], facts["first_difference"], facts["shift_us"]) == (False, 3000, 0)


@pytest.mark.parametrize("n", [0, 1, 4999])
def test_one_recording_goes_on(run, walk, tmp_path, n):
    path, events = walk
    write_recording(tmp_path / "short.aedat", events[:n], format="aedat2", sensor_hw=HW)
    found = compare_recordings(open_recording(tmp_path / "short.aedat"), open_recording(path))
    assert (found.events_a, found.events_b, found.first_difference) == (n, 5000, n)
    assert (found.first_a, found.first_b) == (None, events[n].item())
    result = run("diff", path, "short.aedat")
    assert result.exit_code == 1
    assert " and its end" in result.stdout


def test_what_cannot_be_read_is_code_2(run, walk):
    result = run("diff", walk[0], "absent")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: absent: no such file")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1500", 1500), ("1.5s", 1_500_000), ("+20ms", 20_000), ("7us", 7), ("-3", -3)],
)
def test_times_by_hand(text, expected):
    assert parse_time(text, option="--from") == expected


def test_times_that_are_no_whole_microseconds_are_refused():
    with pytest.raises(ConfigError, match=r"--to 0\.5us: expected whole microseconds"):
        parse_time("0.5us", option="--to")


def test_hot_pixels_by_hand():
    assert parse_hot_pixels(None) == ((), False, None)
    assert parse_hot_pixels("auto") == ((), True, None)
    assert parse_hot_pixels("500Hz") == ((), True, 500.0)
    assert parse_hot_pixels("3,30; 7,2") == (((3, 30), (7, 2)), False, None)
