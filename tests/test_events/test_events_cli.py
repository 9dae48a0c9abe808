"""The program `events`: options, exit codes, one-line errors, JSON, interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from scipy.io import loadmat
from suites.store_tree import SENSOR_HW, list_tree, moving_dot, write_tree
from typer.testing import CliRunner

from events.binning.settings import PRESETS, BinSettings
from events.cli.convert import default_destination
from events.cli.program import app
from events.convert import convert as run_convert
from events.recording import ReadOptions
from events.store.attributes import read_attributes
from events.store.detection import open_detection_store
from events.store.reader import open_store
from events.synth.shapes import settings_of
from events.writers.registry import write_recording


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs `events` in an empty folder and returns the result."""
    monkeypatch.chdir(tmp_path)
    # Wide enough that no message is broken over two lines.
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return write_tree(tmp_path_factory.mktemp("cli") / "dots", per_class=2)


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "dots.zarr"
    run_convert(list_tree(tree), path)
    return path


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from events.cli import app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert result.exit_code == 0 and 'convert' in result.output, result.output\n"
        "heavy = ('torch', 'numba', 'zarr', 'dask', 'distributed', 'numpy', 'numcodecs', 'PIL')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_module_is_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "events", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize(
    "command",
    [
        *("convert", "cat", "diff", "info", "check", "view", "mat", "datasets", "download", "synth digits"),
        "synth shapes",
    ],
)
def test_every_command_has_an_example(run, command):
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"events {command} " in re.sub(r"\s+", " ", result.output).split("Example", 1)[1]


def test_choices_are_those_of_the_settings():
    """The command spells choices out, so as not to import the settings; here the two are compared."""
    import inspect

    from events.cli.convert import convert
    from events.cli.look import info

    def choices(annotation) -> set[str]:
        if get_origin(annotation) is Literal:
            return set(get_args(annotation))
        return {choice for part in get_args(annotation) for choice in choices(part)}

    parameters = inspect.signature(convert, eval_str=True).parameters
    of_info = inspect.signature(info, eval_str=True).parameters
    names = {"split": "binning"}
    for given, settings in ((parameters, BinSettings), (parameters, ReadOptions), (of_info, ReadOptions)):
        for field in fields(settings):
            parameter = given.get(names.get(field.name, field.name))
            if parameter is not None and choices(field.type):
                assert choices(parameter.annotation) == choices(field.type), field.name
    assert choices(parameters["preset"].annotation) == set(PRESETS)


def test_convert_writes_a_store(run, tree, tmp_path):
    result = run(
        "convert", "folder", tree, "out.zarr", "--frames", 4, "--workers", 1, "--split", "random:0:0.5"
    )
    assert result.exit_code == 0, result.output
    assert "6 of 6 recordings" in result.stderr
    assert result.stdout == ""
    assert open_store(tmp_path / "out.zarr").shape == (6, 4, 2, 128, 128)


def test_convert_prints_json(run, tree):
    result = run("convert", "folder", tree, "out.zarr", "--workers", 1, "--json")
    summary = json.loads(result.stdout)
    assert (summary["ok"], summary["failed"], summary["path"]) == (6, 0, "out.zarr")


def test_options_reach_the_settings(run, tree, tmp_path):
    options = (
        "--preset tet10 --frames 6 --binning duration --window-us 2000 --tail last --value binary "
        "--size 48x64 --dtype uint16 --orientation raw --timestamps dat2mat --polarity raw --damage strict "
        "--codec small --shard-samples 5 --seed 3 --workers 1"
    )
    result = run("convert", "folder", tree, "out.zarr", *options.split())
    assert result.exit_code == 0, result.output
    attributes = read_attributes(tmp_path / "out.zarr")
    assert attributes["binning"] == {
        "frames": 6,
        "split": "duration",
        "tail": "last",
        "window_us": 2000,
        "value": "binary",
        "size_hw": [48, 64],
        "resize": "direct",
        "dtype": "uint16",
    }
    read = attributes["read"]
    assert [read[name] for name in ("orientation", "timestamps", "polarity", "damage")] == [
        "raw",
        "dat2mat",
        "raw",
        "strict",
    ]
    assert (attributes["codec"], attributes["shard_samples"]) == ("small", 5)
    assert attributes["permutation"]["seed"] == 3
    assert attributes["frame_shape"] == [6, 2, 48, 64]


@pytest.mark.parametrize(
    ("binning", "expected"),
    [
        (BinSettings(), "DVS-10count.zarr"),
        (PRESETS["mlif80"], "DVS-80count-drop-binary.zarr"),
        (BinSettings(split="duration", window_us=50, size_hw=(48, 64)), "DVS-10duration-50us-48x64.zarr"),
    ],
)
def test_default_destination_tells_binnings_apart(binning, expected):
    assert default_destination(Path("/data/DVS"), binning) == Path(expected)


def test_dry_run_writes_nothing(run, tree, tmp_path):
    result = run("convert", "folder", tree, "--dry-run", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"6 files, 0\.0 MB -> dots-10count\.zarr\nframes 10x2x128x128 uint8, 1 shards, about", result.stdout
    )
    assert list(tmp_path.iterdir()) == []
    assert json.loads(run("convert", "folder", tree, "--dry-run", "--json").stdout)["files"] == 6


def test_failed_recordings_give_exit_code_3(run, tree, tmp_path):
    shutil.copytree(tree, tmp_path / "bad")
    (tmp_path / "bad" / "dog" / "1.aedat").write_bytes(b"#!AER-DAT2.0\r\n")
    result = run("convert", "folder", "bad", "out.zarr", "--workers", 1)
    assert result.exit_code == 3
    assert re.search(
        r"failed: dog/1\.aedat: .*holds no events \(14 bytes\); get the file again", result.stderr
    )
    assert "5 of 6 recordings" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["convert", "folder", "{tree}", "--size", "4x4x4"],
            2,
            r"--size 4x4x4: expected pixels such as 48, or",
        ),
        (["convert", "folder", "{tree}", "--frames", "0"], 2, r"frames must be at least 1, got 0"),
        (["convert", "folder", "{tree}", "--window-us", "5"], 2, r"window_us belongs to split 'duration'"),
        (["convert", "foldr", "{tree}"], 1, r"no data set 'foldr'; known: .*; did you mean 'folder'\?"),
        (["convert", "folder", "absent"], 1, r"absent"),
        (["check", "absent"], 1, r"absent: found nothing, expected a store; make one with"),
        (["info", "absent"], 1, r"absent"),
        (["view", "{tree}"], 1, r"found a folder without zarr\.json"),
        (["datasets", "absent"], 2, r"no known data set 'absent'; known: dvs-cifar10, "),
        (["download", "absent", "there"], 1, r"no known data set 'absent'"),
    ],
)
def test_errors_are_one_line(run, tree, arguments, code, message):
    result = run(*[argument.format(tree=tree) for argument in arguments])
    assert result.exit_code == code, result.output
    last = result.stderr.splitlines()[-1]
    assert re.match(rf"error: .*{message}", last)
    assert "Traceback" not in result.output


def test_unknown_choice_is_usage(run, tree):
    result = run("convert", "folder", tree, "--value", "sum")
    assert result.exit_code == 2
    assert "not one of 'count', 'binary', 'last_time'" in result.output


def test_other_settings_are_refused(run, tree):
    assert run("convert", "folder", tree, "out.zarr", "--workers", 1).exit_code == 0
    result = run("convert", "folder", tree, "out.zarr", "--workers", 1, "--seed", 9)
    assert result.exit_code == 1
    assert "permutation.seed: found 0, expected 9" in result.stderr
    assert (
        run("convert", "folder", tree, "out.zarr", "--workers", 1, "--seed", 9, "--overwrite").exit_code == 0
    )


def test_check_says_sound_or_what_is_wrong(run, tree, store, tmp_path):
    result = run("check", store, "--against", tree)
    assert result.exit_code == 0
    assert "sound (level full): 6 samples in 1 shards, 6 read, 6 recordings compared" in result.stdout
    shutil.copytree(store, tmp_path / "cut.zarr")
    shard = tmp_path / "cut.zarr" / "frames" / "c.0.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-1])
    result = run("check", "cut.zarr", "--level", "fast")
    assert result.exit_code == 1
    assert "problem: c.0.0.0.0.0: " in result.stdout
    report = json.loads(run("check", "cut.zarr", "--json", "--level", "fast").stdout)
    assert report["sound"] is False
    assert len(report["problems"]) == 1


def test_info_of_recording_and_store(run, tree, store):
    result = run("info", tree / "cat" / "0.aedat", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["format"] == "aedat2"
    assert "400" in run("info", tree / "cat" / "0.aedat").stdout
    result = run("info", store, "--json")
    assert result.exit_code == 0, result.output
    assert read_attributes(store)["config_hash"] in result.stdout


def test_a_file_that_does_not_say_its_columns_can_be_looked_at(run, tmp_path):
    (tmp_path / "slider.txt").write_text("5 3 7 1\n6 4 7 0\n")
    assert "say it with columns" in run("info", "slider.txt").stderr
    reading = ("--columns", "t:ms,x,y,p", "--sensor", "10x20")
    facts = json.loads(run("info", "slider.txt", *reading, "--json").stdout)
    assert (facts["sensor"], facts["t_first_us"], facts["on"]) == ({"height": 10, "width": 20}, 5000, 1)
    assert run("view", "slider.txt", *reading).exit_code == 0
    assert run("cat", "slider.txt", "slider.npz", *reading).exit_code == 0
    assert run("diff", "slider.txt", "slider.npz", *reading).exit_code == 0


@pytest.mark.parametrize("command", ["info", "view"])
def test_options_of_reading_are_refused_for_a_store(run, store, command):
    result = run(command, store, "--orientation", "raw")
    assert result.exit_code == 2
    assert result.stderr.endswith("its recordings are decoded already; leave out options of reading\n")


def test_view_draws_recording_and_sample(run, tree, store, tmp_path):
    result = run("view", tree / "cat" / "0.aedat")
    assert result.exit_code == 0, result.output
    # Captured output is no terminal: signs instead of colours.
    assert set(result.stdout) == set("+-# \n")
    result = run("view", store, "--sample", 5, "--png", "sheet.png", "--gif", "film.gif")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF8")
    assert run("view", store, "--sample", 5, "--png", "sheet.of_any_name").exit_code == 0
    assert (tmp_path / "sheet.of_any_name").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    assert run("view", store, "--sample", 6).exit_code == 2
    assert run("view", store, "--frame", 10).exit_code == 2


def test_info_of_a_damaged_recording_says_so_in_its_exit_code(run, tree, tmp_path):
    whole = (tree / "cat" / "0.aedat").read_bytes()
    (tmp_path / "cut.aedat").write_bytes(whole[:-3])
    result = run("info", "cut.aedat")
    assert result.exit_code == 3
    assert f"1 partial record at the end, first at byte {len(whole) - 8:,}" in result.stdout
    assert "; damaged, `events info` says how\n" in run("view", "cut.aedat").stderr


def test_datasets_are_listed(run):
    assert "dvs-cifar10" in run("datasets").stdout
    assert len(json.loads(run("datasets", "--json").stdout)) > 3
    assert json.loads(run("datasets", "nmnist", "--json").stdout)["name"] == "nmnist"


def test_mat_writes_files_and_reports_those_it_cannot(run, tree, tmp_path):
    result = run("mat", tree / "cat" / "0.aedat", "one.mat")
    assert result.exit_code == 0, result.output
    assert loadmat(tmp_path / "one.mat")["out1"].shape == (400, 4)
    shutil.copytree(tree, tmp_path / "bad")
    (tmp_path / "bad" / "dog" / "1.aedat").write_bytes(b"#!AER-DAT3.1\r\n")
    result = run("mat", "bad", "mats", "--layout", "tet")
    assert result.exit_code == 3
    assert "5 files written, 0 were there already -> mats" in result.stderr
    assert loadmat(tmp_path / "mats" / "cat" / "0.mat")["out1"].shape == (400, 6)


def test_synthetic_digits_convert(run, tmp_path):
    result = run("synth", "digits", "digits", "--per-class", 2, "--duration-us", 20_000, "--seed", 5)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "digits").rglob("*.aedat"))) == 20
    result = run("convert", "dvs-cifar10", "digits", "--workers", 1, "--frames", 4, "--split", "random:0:0.5")
    assert result.exit_code == 0, result.output
    stored = open_store(tmp_path / "digits-4count.zarr")
    assert stored.class_names[:2] == ("zero", "one")
    assert stored.counts() == {"ok": 20, "failed": 0, "missing": 0}
    assert run("check", "digits-4count.zarr", "--against", "digits").exit_code == 0


def test_synthetic_shapes_are_as_asked(run, tmp_path):
    options = "--recordings 2 --seconds 0.06 --size 40 60 --label-hz 50 --objects 2 3 --noise-hz 0 --seed 7"
    result = run("synth", "shapes", "shapes", *options.split())
    assert result.exit_code == 0, result.output
    made = settings_of(tmp_path / "shapes")
    assert (made.recordings, made.duration_us, made.label_us, made.objects, made.seed) == (
        *(2, 60_000, 20_000, (2, 3), 7),
    )
    assert (made.sensor.sensor_hw, made.sensor.noise_rate_hz) == ((40, 60), 0)
    assert "40 x 60 (height x width)" in run("info", "shapes/train/shapes_0000_td.dat").stdout
    assert run("synth", "shapes", "shapes", "--label-hz", 0).exit_code == 2
    refused = run("synth", "shapes", "shapes", *options.split()[:-1], 8)
    assert "made with other settings (seed is 7, asked for 8)" in refused.stderr


def test_synthetic_shapes_convert(run, tmp_path):
    options = "--recordings 3 --seconds 0.1 --size 40 60 --objects 3 3"
    assert run("synth", "shapes", "shapes", *options.split()).exit_code == 0
    result = run("convert", "shapes", "shapes", "shapes.zarr", "--workers", 1)
    assert result.exit_code == 0, result.output
    stored = open_detection_store(tmp_path / "shapes.zarr")
    assert stored.class_names == ("circle", "square", "triangle")
    assert stored.sensor_hw == (40, 60)
    assert [len(stored.indices(split)) for split in ("train", "validation", "test")] == [2, 2, 2]


def test_interrupt_keeps_shards_and_says_how_to_continue(tmp_path):
    """Ctrl-C reaches driver and workers alike, as from a terminal."""
    folder = tmp_path / "many" / "only"
    folder.mkdir(parents=True)
    write_recording(
        tmp_path / "one.aedat", moving_dot(1, events=200_000), format="aedat2", sensor_hw=SENSOR_HW
    )
    for number in range(1500):
        os.link(tmp_path / "one.aedat", folder / f"{number}.aedat")
    command = [
        *(sys.executable, "-m", "events", "convert", "folder", "many", "out.zarr"),
        *("--shard-samples", "4", "--workers", "2"),
    ]
    paths = os.pathsep.join(path for path in sys.path if path)
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As a terminal starts it: where the tests run in the background, the signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    manifest = tmp_path / "out.zarr" / "manifest.jsonl"
    deadline = time.monotonic() + 60
    while not (manifest.exists() and manifest.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    message = running.communicate(timeout=30)[1]
    assert running.returncode == 130, message
    assert "Traceback" not in message
    assert message.endswith(
        "interrupted; what is finished is kept. Continue with:\n"
        "  events convert folder many out.zarr --shard-samples 4 --workers 2\n"
    )
    rows = manifest.read_bytes().count(b"\n")
    assert 0 < rows < 375
    assert list((tmp_path / "out.zarr").rglob("*.tmp")) == []
    partial = open_store(tmp_path / "out.zarr", allow_partial=True)
    assert partial.counts()["ok"] == 4 * rows
