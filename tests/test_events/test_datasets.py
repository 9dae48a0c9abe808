"""What holds for every data set."""

import errno
import os
import re
from pathlib import Path

import pytest
from suites.dataset_files import write_files

from events.datasets.registry import DATASETS, list_samples
from events.errors import ConfigError, DatasetError


def test_a_file_is_no_folder(tmp_path):
    write_files(tmp_path, "airplane.zip", "one.aedat")
    with pytest.raises(
        DatasetError, match=r"airplane\.zip: is a file, expected a folder of recordings; unzip it and name"
    ):
        list_samples("dvs-cifar10", tmp_path / "airplane.zip")
    with pytest.raises(
        DatasetError, match=r"one\.aedat: is a file, expected a folder of recordings; name the folder that"
    ):
        list_samples("folder", tmp_path / "one.aedat")


def test_a_store_is_no_folder_of_recordings(tmp_path):
    write_files(tmp_path, "e.zarr/zarr.json")
    with pytest.raises(DatasetError, match=r"is a store, .* `events convert event-store .*e\.zarr NEW"):
        list_samples("folder", tmp_path / "e.zarr")


def test_a_path_in_place_of_a_name(tmp_path):
    with pytest.raises(DatasetError, match=r"this is a path: the data set's name comes first, `folder` for"):
        list_samples(str(tmp_path), tmp_path)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    write_files(tmp_path, "cat/a.npz", "dog/a.npz")
    scandir = os.scandir

    def refuse_dog(folder):
        # Permissions do not bind the user root, under which these tests may run.
        if str(folder).endswith("dog"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_dog)
    with pytest.raises(
        DatasetError, match=r"dog: cannot be listed \(Permission denied\); check its permissions$"
    ):
        list_samples("folder", tmp_path)


def test_unknown_data_sets_and_options(tmp_path):
    with pytest.raises(
        DatasetError,
        match=r"^no data set 'cifar10-dvs'; known: .*dvs-cifar10, .*folder, .*; did you mean 'dvs-cifar10'\?",
    ):
        list_samples("cifar10-dvs", tmp_path)
    with pytest.raises(
        ConfigError, match=r"^trust has no meaning for data set 'nmnist': its labels come from folders"
    ):
        list_samples("nmnist", tmp_path, trust="name")
    with pytest.raises(ConfigError, match=r"^trust 'both': expected 'folder' or 'name'$"):
        list_samples("dvs-cifar10", tmp_path, trust="both")


def test_every_data_set_is_tested():
    files = Path(__file__).parent.glob("test_datasets_*.py")
    tested = {name for file in files for name in re.findall(r'^    dataset = "(.*)"', file.read_text(), re.M)}
    pictures = Path(__file__).with_name("test_images.py").read_text()
    assert {name for name in DATASETS if name not in tested and f'"{name}"' not in pictures} == set()
