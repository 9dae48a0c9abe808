"""The one file of an exported network: the same after reading, read with NumPy alone, never half written."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from suites.few_bit_networks import few_bit_network, some_frames

from snn.errors import ExportError
from snn.export import network as network_module
from snn.export.integers import ExportSettings, integer_network
from snn.export.network import DESCRIPTION, read_network, write_network
from snn.export.runner import run_network
from snn.export.walk import plan_of
from snn.neurons.settings import NEURONS

ROOT = Path(__file__).parents[2]

ALONE = """
import sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from pathlib import Path
from snn.export.network import read_network
from snn.export.runner import run_network
logits = run_network(read_network(Path(sys.argv[1])), np.load(sys.argv[2]))
np.save(sys.argv[3], logits)
"""


@pytest.fixture(scope="module")
def network():
    model = few_bit_network("vgg5", NEURONS["quantlif"], width=0.2)
    return integer_network(plan_of(model), ExportSettings(), about={"class_names": ["a", "b", "ü"]})


@pytest.fixture
def path(network, tmp_path):
    write_network(network, tmp_path / "new" / "network.npz")
    return tmp_path / "new" / "network.npz"


def test_a_network_is_the_same_after_reading(network, path):
    again = read_network(path)
    assert again.description() == network.description()
    assert again.about["class_names"] == ["a", "b", "ü"]
    for layer, other in zip(network.layers, again.layers, strict=True):
        assert replace(layer, arrays={}) == replace(other, arrays={})
        for name, array in layer.arrays.items():
            np.testing.assert_array_equal(array, other.arrays[name])
            assert array.dtype == other.arrays[name].dtype
    np.testing.assert_array_equal(run_network(network, some_frames()), run_network(again, some_frames()))


def test_it_holds_whole_numbers_and_a_description_for_people(network, path):
    with np.load(path) as file:
        assert all(file[name].dtype.kind == "i" for name in file.files if name != DESCRIPTION)
        assert file["block2.conv/weight"].dtype == np.int8
        assert set(np.unique(file["block2.conv/weight"])) <= {-1, 0, 1}
        assert file["block2.neuron/levels"].shape == (3,)
    with zipfile.ZipFile(path) as archive:
        described = json.loads(archive.read(DESCRIPTION))
    assert described["layers"][0]["name"] == "block1.conv"
    assert described["layers"][0]["numbers"]["weight_bits"] == 8
    assert [layer["name"] for layer in described["layers"]] == [layer.name for layer in network.layers]


def test_the_same_network_gives_the_same_bytes(network, path, tmp_path):
    write_network(network, tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_it_runs_without_torch(network, path, tmp_path):
    np.save(tmp_path / "frames.npy", some_frames())
    files = [str(path), str(tmp_path / "frames.npy"), str(tmp_path / "logits.npy")]
    run = subprocess.run(
        [sys.executable, "-c", ALONE, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    logits = np.load(tmp_path / "logits.npy")
    assert logits.dtype == np.int64
    np.testing.assert_array_equal(logits, run_network(network, some_frames()))


def test_a_write_that_fails_leaves_what_was_there(network, path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(network_module, "_write_member", full)
    with pytest.raises(OSError, match="No space left"):
        write_network(network, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def rewrite(path, change):
    """Change a file's description."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(members[DESCRIPTION])
    change(described)
    members[DESCRIPTION] = json.dumps(described).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=99), r"found 'spikeline integer network' of version 99, expected"),
        (lambda d: d["layers"][0].update(kind="exec"), "layer 'block1.conv' has the kind 'exec'"),
        (
            lambda d: d["layers"][0].update(inputs=["pool3"]),
            "layer 'block1.conv' has the input 'pool3' before",
        ),
        (lambda d: d["layers"][0]["arrays"].update(weight=["int8", [1]]), "described as int8"),
        (lambda d: d["layers"][0]["arrays"].update(more=["int8", [1]]), "KeyError"),
        (lambda d: d.pop("layers"), "KeyError: 'layers'"),
    ],
)
def test_files_that_do_not_fit(path, change, message):
    rewrite(path, change)
    with pytest.raises(ExportError, match=message) as error:
        read_network(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY", b"text"])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "network.npz"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="no exported network, or damaged"):
        read_network(path)
    with pytest.raises(ExportError, match="not found; `pipelines export RUN` writes one"):
        read_network(tmp_path / "none.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ExportError, match="no exported network, or damaged"):
        read_network(tmp_path / "array.npy")


def test_a_file_cut_off_anywhere_is_refused(path):
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ExportError, match="no exported network, or damaged"):
            read_network(path)
