"""`pipelines detect stream` as a program: a run folder in, files out, one-line errors, exit codes."""

import json
import subprocess
import sys
import time

import pytest
from suites.stream_stand_ins import BINNING, NAMES, SENSOR_HW, moving_events, recorded, small_network
from typer.testing import CliRunner

from events.datasets.detection.windows import WindowRules
from pipelines import cli
from pipelines.detect_settings import DetectExperiment, DetectionData
from pipelines.run_folder import RunFolder
from pipelines.stream.load import load_network
from snn.training.checkpoint import save_checkpoint
from snn.training.fit import BEST


@pytest.fixture(scope="module")
def network():
    return small_network(head="anchor_free")


@pytest.fixture(scope="module")
def run_folder(network, tmp_path_factory):
    """What `pipelines run detect` leaves behind, as far as a stream needs it."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    data = DetectionData(binning=BINNING, windows=WindowRules(window_us=BINNING.window_us))
    experiment = DetectExperiment(name="small", data=data, detector=network.detector.settings)
    frames = {"channels": BINNING.channels, "height": 48, "width": 64, "sensor_hw": list(SENSOR_HW)}
    folder.create(experiment, {"class_names": list(NAMES), "anchors": None, "frames": frames})
    save_checkpoint(folder.checkpoints / BEST, {"model": network.detector.state_dict(), "epoch": 1})
    return folder.path


@pytest.fixture
def file(tmp_path):
    return recorded(tmp_path / "spot.dat", moving_events())


def stream(*arguments):
    return CliRunner().invoke(cli.app, ["detect", "stream", *map(str, arguments), "--device", "cpu"])


def test_a_run_is_loaded_without_its_store(run_folder, network):
    loaded = load_network(run_folder)
    assert (loaded.binning, loaded.class_names, loaded.sensor_hw) == (BINNING, NAMES, SENSOR_HW)
    expected = network.detector.state_dict()
    assert all((value == expected[name]).all() for name, value in loaded.detector.state_dict().items())


def test_boxes_summary_and_picture_are_written(run_folder, file, tmp_path):
    out = tmp_path / "found" / "boxes.jsonl"
    result = stream(file, "--weights", run_folder, "--out", out, "--score", 0.01, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert {path.name for path in out.parent.iterdir()} == {
        "boxes.jsonl", "boxes.summary.json", "boxes.latency.png",
    }  # fmt: skip
    assert summary["windows"] == len(out.read_text().splitlines()) == 10
    assert summary["boxes"] > 0
    assert summary["run"] == str(run_folder)


def test_people_are_told_latency_and_files(run_folder, file, tmp_path):
    result = stream(file, "--weights", run_folder, "--out", tmp_path / "a.csv", "--events", 20_000)
    assert result.exit_code == 0, result.stderr
    assert "in 3 windows, 60,000 events, 0.3 s of recording" in result.stdout
    assert "p99.9" in result.stdout
    assert str(tmp_path / "a.summary.json") in result.stdout


def test_a_recording_on_standard_input(run_folder, file, tmp_path):
    command = [sys.executable, "-m", "pipelines", "detect", "stream", "-", "--weights", str(run_folder)]
    command += ["--out", str(tmp_path / "a.csv"), "--json", "--device", "cpu"]
    done = subprocess.run(command, input=file.read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["windows"], summary["events"]) == (10, 60_000)


def test_a_damaged_recording_is_told_by_the_exit_code(run_folder, file, tmp_path):
    file.write_bytes(file.read_bytes()[:-3])
    result = stream(file, "--weights", run_folder, "--out", tmp_path / "a.csv")
    assert result.exit_code == 3
    assert "damaged from byte" in result.stderr
    strict = stream(file, "--weights", run_folder, "--out", tmp_path / "a.csv", "--damage", "strict")
    assert strict.exit_code == 1
    assert "the files hold what was found before" in strict.stderr


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--out", "boxes.xml"], 2, "no boxes are written as '.xml'"),
        (["--video", "film.avi"], 2, "no films are written as '.avi'; expected .gif or .mp4"),
        (["--policy", "widen"], 2, "add --realtime"),
        (["--speed", "2"], 2, "--speed is for --realtime"),
        (["--rate-hz", "100"], 2, "overlap"),
        (["--events", "5", "--window-us", "9"], 2, "leave out --rate-hz and --window-us"),
        (["--score", "1.5"], 2, "--score: found 1.5"),
        (["--deadline-ms", "0"], 2, "--deadline-ms: found 0"),
        (["--threads", "0"], 2, "--threads: found 0"),
        (["--sensor", "50x50"], 1, "trained on 48 x 64"),
    ],
)
def test_what_cannot_be_is_one_line(run_folder, file, tmp_path, monkeypatch, more, code, words):
    monkeypatch.chdir(tmp_path)
    result = stream(file, "--weights", run_folder, *more)
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["spot.dat"]


@pytest.mark.parametrize(
    ("more", "package"), [(["--out", "boxes.parquet"], "pyarrow"), (["--video", "film.mp4"], "av")]
)
def test_without_the_extra_it_is_named(run_folder, file, tmp_path, monkeypatch, more, package):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    result = stream(file, "--weights", run_folder, *more)
    assert result.exit_code == 1
    words = f"{more[1]}: is written with the package {package}, which is not installed; "
    assert words + "pip install 'spikeline[stream]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["spot.dat"]


def test_a_stream_that_is_killed_leaves_nothing_by_its_name(run_folder, tmp_path):
    path = recorded(tmp_path / "long.dat", moving_events(span_us=60_000_000, rate=5_000))
    outs = [tmp_path / "boxes.parquet", tmp_path / "film.mp4"]
    command = [sys.executable, "-m", "pipelines", "detect", "stream", str(path), "--weights", str(run_folder)]
    command += ["--out", str(outs[0]), "--video", str(outs[1]), "--realtime", "--device", "cpu"]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        # The film's temporary file is the last to be made, just before the first window.
        while not list(tmp_path.glob(".film.mp4.*.partial")):
            assert program.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()
    assert not [out for out in outs if out.exists()]
    assert not (tmp_path / "boxes.summary.json").exists()


def test_files_and_folders_that_are_something_else(run_folder, file, tmp_path, experiment):
    empty = tmp_path / "empty.raw"
    empty.write_bytes(b"")
    found = stream(empty, "--weights", run_folder)
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert "empty.raw: is empty" in found.stderr
    assert "absent.raw" in stream(tmp_path / "absent.raw", "--weights", run_folder).stderr
    assert "name a folder made by `pipelines run detect`" in stream(file, "--weights", tmp_path).stderr
    classified = RunFolder(tmp_path / "classified")
    classified.create(experiment, {})
    assert "which finds no boxes" in stream(file, "--weights", classified.path).stderr


def test_help_starts_without_heavy_imports():
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pipelines.cli import app\n"
        "result = CliRunner().invoke(app, ['detect', 'stream', '--help'])\n"
        "assert result.exit_code == 0 and 'pipelines detect stream drive.raw' in result.stdout\n"
        "heavy = {'torch', 'numpy', 'numba', 'zarr', 'dask', 'matplotlib', 'lightning_fabric'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
