"""The program `pipelines`: help at once, one-line errors, exit codes, JSON on stdout."""

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.cli import names
from pipelines.display import Silent
from pipelines.settings_tree import build_settings
from snn.models.registry import MODELS
from snn.neurons.executors import EXECUTORS
from snn.neurons.membrane import MEMBRANES
from snn.neurons.settings import NEURONS, NeuronSettings


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished_run(experiment_file, store_path, tmp_path_factory):
    """A run of one epoch, and what it printed."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    result = run(
        "run", "classify", experiment_file, "--data", store_path, "--out", folder,
        "--set", "training.epochs=1", "--seed", 3, "--neuron", "plif", "--executor", "reference",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return folder, result


def test_help_starts_without_heavy_imports():
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pipelines.cli import app\n"
        "result = CliRunner().invoke(app, ['run', 'classify', '--help'])\n"
        "assert result.exit_code == 0 and '--resume' in result.stdout\n"
        "heavy = {'torch', 'numpy', 'numba', 'zarr', 'dask', 'matplotlib', 'lightning_fabric'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_torch_an_error_says_what_to_install():
    # None in sys.modules makes Python take a module for absent.
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from pipelines.cli import main\n"
        "sys.argv = ['pipelines', 'run', 'classify']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: torch is not installed; pip install 'spikeline[train]'; "
        "`pipelines doctor` says what else is missing\n"
    )


@pytest.mark.parametrize(
    "command", [["run", "classify"], ["evaluate"], ["report"], ["experiments"], ["doctor"]]
)
def test_every_command_shows_an_example(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"pipelines {' '.join(command)}" in result.stdout or "pipelines run classify" in result.stdout


def test_a_run_ends_by_saying_where_everything_is_and_what_is_next(finished_run):
    folder, result = finished_run
    for part in (
        "test accuracy",
        f"report        {folder}/report.html",
        f"checkpoint    {folder}/checkpoints/best.pt",
        "store         ",
        "events convert folder MY_RECORDINGS my.zarr",
        f"pipelines run classify {folder}/settings.toml --data my.zarr",
    ):
        assert part in result.stdout
    assert "epoch   1/1  train loss" in result.stderr
    assert result.stderr.count("neurons   plif: reference (") == 1
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["seed"], settings["model"]["executor"]) == (3, "reference")
    assert build_settings(NeuronSettings, settings["model"]["neuron"], where="run") == NEURONS["plif"]


def test_json_is_all_there_is_on_stdout(finished_run):
    folder, _ = finished_run
    resumed = json.loads(run("run", "classify", "--resume", folder, "--json").stdout)
    assert resumed["run"] == str(folder)
    assert resumed["test"]["samples"] == 12
    evaluated = json.loads(run("evaluate", folder, "--split", "test", "--json").stdout)
    assert evaluated["accuracy"] == resumed["test"]["accuracy"]


def test_evaluate_and_report_for_people(finished_run):
    folder, _ = finished_run
    result = run("evaluate", folder, "--split", "train")
    assert result.exit_code == 0
    assert "train samples of" in result.stdout
    assert [line.split()[-1] for line in result.stdout.splitlines()[1:]] == ["cat", "dog", "frog"]
    assert run("report", folder).stdout.strip() == f"{folder}/report.html"


def test_experiments_are_listed():
    listed = json.loads(run("experiments", "--json").stdout)
    assert {"digits", "nmnist", "dvs_cifar10_vgg9"} <= {entry["name"] for entry in listed}
    text = run("experiments").stdout
    assert all(entry["description"] in text for entry in listed)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "classify", "digit"], 2, "did you mean 'digits'?"),
        (
            ["run", "classify", "--set", "training.epocs=3"],
            2,
            "unknown setting 'training.epocs'; did you mean",
        ),
        (["run", "classify", "--set", "model.name=vgg99"], 2, "name: found 'vgg99', expected one of vgg5"),
        (["run", "classify", "--devices", "3"], 2, "cannot be shared by 3 devices"),
        (
            ["run", "classify", "--executor", "cuda", "--set", "training.device=cpu"],
            1,
            "executor: found 'cuda' for a current on cpu",
        ),
        (
            ["run", "classify", "--neuron", "mliff"],
            2,
            "--neuron: found 'mliff', expected one of lif, plif, lt, quantlif, mlif; did you mean 'mlif'?",
        ),
        (
            ["run", "classify", "--executor", "numbra"],
            2,
            "--executor: found 'numbra', expected one of auto, reference, numba, cuda; did you mean 'numba'?",
        ),
        (["run", "classify", "--neuron", "lif", "--resume", "x"], 2, "--neuron, --executor, --seed"),
        (["run", "classify", "--data", "no-such-folder"], 1, "no-such-folder: no such folder"),
        (["run", "classify", "nmnist"], 1, "data.dataset is 'nmnist', but no recordings are given"),
        (
            ["run", "classify", "--resume", "no-such-run"],
            1,
            "no-such-run/settings.json: not found; no run here",
        ),
        (
            ["run", "classify", "--model", "resnet91"],
            2,
            "--model: found 'resnet91', expected one of vgg5, ",
        ),
        (["run", "classify", "digits", "--resume", "x"], 2, "--resume goes on with the run's own settings"),
        (["evaluate", "no-such-run"], 1, "no run here; `pipelines run classify` makes one"),
        (["report", "no-such-run"], 1, "no run here"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_help_teaches_the_models_neurons_and_executors_there_are():
    assert tuple(names.MODELS) == tuple(MODELS)
    assert tuple(names.NEURONS) == tuple(NEURONS)
    assert tuple(names.MEMBRANES) == tuple(MEMBRANES)
    assert tuple(names.EXECUTORS) == EXECUTORS
    shown = run("run", "classify", "--help").stdout
    assert all(f"{name}: " in shown for name in (*MODELS, *NEURONS, *MEMBRANES, *EXECUTORS))


def test_a_run_of_an_earlier_version_says_what_was_renamed(finished_run, tmp_path):
    run_folder = tmp_path / "old"
    run_folder.mkdir()
    settings = json.loads((finished_run[0] / "settings.json").read_text())
    settings["model"]["neuron"] = {"kind": "lt", "decay": 0.5}
    (run_folder / "settings.json").write_text(json.dumps(settings))
    for arguments in (["evaluate", run_folder], ["run", "classify", "--resume", run_folder]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert result.stderr == (
            f"error: {run_folder}/settings.json: setting 'model.neuron.kind' was replaced: instead of kind "
            '"lt" write learn_threshold = true, instead of kind "lif" learn_threshold = false\n'
        )


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line(experiment_file, store_path, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("run", "classify", experiment_file, "--data", store_path, "--out", tmp_path / "file" / "run")
    assert result.exit_code == 1
    assert f"error: {tmp_path}/file/run: Not a directory" in result.stderr


def test_ctrl_c_saves_and_says_how_to_go_on(experiment_file, store_path, tmp_path, monkeypatch):
    class Interrupts(Silent):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def progress(self, activity, done, total, note=""):
            if activity.startswith("epoch   2"):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("pipelines.cli.classify.display_here", Interrupts)
    result = run("run", "classify", experiment_file, "--data", store_path, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert f"pipelines run classify --resume {tmp_path}/run" in result.stderr
    monkeypatch.undo()
    assert run("run", "classify", "--resume", tmp_path / "run").exit_code == 0


def test_ctrl_c_while_data_is_made_says_so(experiment_file, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.classify.prepare_store", interrupted)
    result = run("run", "classify", experiment_file, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "run the same command again to go on" in result.stderr
