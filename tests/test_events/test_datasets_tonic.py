"""Data sets of tonic, through a stand-in with the same interface: tonic itself is optional."""

import sys
from types import ModuleType

import numpy as np
import pytest

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets import tonic as adapter
from events.datasets.registry import list_samples
from events.errors import ConfigError, DamagedRecording, DatasetError
from events.estimate import estimate
from events.recording import ReadOptions
from events.store.check import check_store
from events.store.plan import plan_conversion
from events.store.reader import open_store
from events.store.samples import open_sample

DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
SETTINGS = ConvertSettings(binning=BinSettings(frames=2), shard_samples=4)


def some_events(seed, n=200, dtype=DTYPE):
    rng = np.random.default_rng(seed)
    events = np.zeros(n, dtype)
    for name in dtype.names:
        top = 2 if name in ("p", "pol", "polarity") else 20
        events[name] = np.sort(rng.integers(0, 90_000, n)) if name[0] == "t" else rng.integers(0, top, n)
    return events


class Digits:
    """With an official split and named classes, as NMNIST."""

    sensor_size = (24, 20, 2)
    classes = ("zero", "one", "two")

    def __init__(self, save_to, train=True, transform=None):
        self.base = 0 if train else 100
        self.targets = [number % 3 for number in range(9 if train else 6)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, number):
        return some_events(self.base + number), self.targets[number]


class Words:
    """Without a split or a list of targets; classes as a dictionary, other names, polarities of -1 and 1."""

    sensor_size = (24, 20, 2)
    classes = {"b": 1, "a": 0}
    dtype = np.dtype([("ts", "<i8"), ("x", "<i2"), ("y", "<i2"), ("pol", "<i1")])

    def __init__(self, save_to):
        pass

    def __len__(self):
        return 20

    def __getitem__(self, number):
        if number >= 20:
            raise IndexError
        events = some_events(number, dtype=self.dtype)
        events["pol"] = 2 * events["pol"] - 1
        return events, np.int64(number % 2)


class Boxes(Digits):
    def __init__(self, save_to, train=True):
        super().__init__(save_to, train)
        self.targets = [np.zeros(4)] * len(self.targets)


class Pictures(Digits):
    def __getitem__(self, number):
        return np.zeros((3, 3)), self.targets[number]


class Broken(Digits):
    def __init__(self, save_to, train=True):
        raise RuntimeError("File not found or\ncorrupted.")


class Scattered(Digits):
    def __getitem__(self, number):
        if number == 1:
            raise ValueError("half a file")
        events = some_events(number)
        events["x"][3] = 24
        return events, self.targets[number]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    package, sets = ModuleType("tonic"), ModuleType("tonic.datasets")
    for made in (Digits, Words, Boxes, Pictures, Broken, Scattered):
        setattr(sets, made.__name__, made)
    package.datasets = sets
    monkeypatch.setitem(sys.modules, "tonic", package)
    monkeypatch.setitem(sys.modules, "tonic.datasets", sets)
    adapter._open_part.cache_clear()
    yield
    adapter._open_part.cache_clear()


def test_official_split_classes_and_sensor(tmp_path):
    listing = list_samples("tonic:Digits", tmp_path)
    assert (listing.dataset, listing.split_rule) == ("tonic:Digits", "official")
    assert (listing.class_names, listing.sensor_hw) == (("zero", "one", "two"), (20, 24))
    assert [(s.path, s.label, s.split) for s in listing.samples[:5]] == [
        ("test/0", 0, "test"),
        ("train/0", 0, "train"),
        ("test/3", 0, "test"),
        ("train/3", 0, "train"),
        ("train/6", 0, "train"),
    ]
    assert list_samples("tonic:digits", tmp_path).samples == listing.samples


def test_a_set_without_a_split_is_split_at_random(tmp_path):
    listing = list_samples("tonic:Words", tmp_path)
    assert (listing.split_rule, listing.class_names) == ("random:0:0.9", ("a", "b"))
    assert {s.label for s in listing.samples if s.number % 2} == {1}
    with pytest.raises(
        ConfigError, match=r"split 'official' is not defined for this data set; known: random"
    ):
        list_samples("tonic:Words", tmp_path, split="official")


@pytest.mark.parametrize("name", ["Digits", "Words"])
def test_fields_are_found_by_name(tmp_path, name):
    listing = list_samples(f"tonic:{name}", tmp_path)
    sample = next(s for s in listing.samples if s.number == 3 and s.split == "train")
    found = open_sample(listing.dataset, tmp_path, sample.path, listing.read_options).read()
    expected = (Digits if name == "Digits" else Words)(tmp_path)[3][0]
    for field, there in zip(
        "txyp", ("t", "x", "y", "p") if name == "Digits" else ("ts", "x", "y", "pol"), strict=True
    ):
        np.testing.assert_array_equal(found[field], expected[there] > 0 if field == "p" else expected[there])


def test_conversion_is_whole_checked_and_continued(tmp_path):
    listing = list_samples("tonic:Digits", tmp_path)
    summary = convert(listing, tmp_path / "store.zarr", SETTINGS)
    assert (summary.ok, summary.failed) == (15, 0)
    store = open_store(tmp_path / "store.zarr")
    assert store.attributes["dataset"] == "tonic:Digits"
    assert store.n_events.tolist() == [200] * 15
    assert convert(listing, tmp_path / "store.zarr", SETTINGS).shards_written == 0
    report = check_store(tmp_path / "store.zarr", against=tmp_path)
    assert (report.problems, report.recordings_compared) == ([], 15)
    assert estimate(plan_conversion(listing, SETTINGS)).tried == 3


def test_a_changed_sample_is_found(tmp_path, monkeypatch):
    convert(list_samples("tonic:Digits", tmp_path), tmp_path / "store.zarr", SETTINGS)
    monkeypatch.setattr(Digits, "__getitem__", lambda self, number: (some_events(1000 + number), number % 3))
    problems = check_store(tmp_path / "store.zarr", against=tmp_path).problems
    assert len(problems) == 15
    assert all(problem.endswith("its content changed since the conversion") for problem in problems)


def test_samples_that_cannot_be_read_fail_alone_and_stray_events_are_told(tmp_path):
    listing = list_samples("tonic:Scattered", tmp_path)
    summary = convert(listing, tmp_path / "store.zarr", SETTINGS)
    assert (summary.ok, summary.failed, summary.damaged) == (13, 2, 13)
    assert summary.failures[0].error == "tonic cannot read it: half a file"
    options = ReadOptions(sensor_hw=(20, 24), damage="strict")
    recording = open_sample("tonic:Scattered", tmp_path, "train/0", options)
    with pytest.raises(
        DamagedRecording, match=r"train/0: byte \d+: an event outside a sensor of 20x24; read"
    ):
        recording.read()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Digit", r"^tonic:Digit: tonic has no data set 'Digit'; known: Boxes, .*; did you mean 'Digits'\?"),
        (
            "Boxes",
            r"^tonic:Boxes: its targets are ndarray, expected one class per sample; only sets for class",
        ),
        (
            "Broken",
            r"^tonic:Broken: tonic cannot open part 'train' of it .*: File not found or corrupted\.; check",
        ),
    ],
)
def test_sets_that_cannot_be_converted(tmp_path, name, message):
    with pytest.raises(DatasetError, match=message):
        list_samples(f"tonic:{name}", tmp_path)


def test_samples_that_are_no_events(tmp_path):
    with pytest.raises(
        DamagedRecording, match=r"train/0: holds ndarray with fields none, expected a structured"
    ):
        open_sample("tonic:Pictures", tmp_path, "train/0", ReadOptions())


def test_options_about_files_have_no_meaning(tmp_path):
    with pytest.raises(ConfigError, match=r"^orientation 'raw' has no meaning for tonic:Digits: tonic reads"):
        open_sample("tonic:Digits", tmp_path, "train/0", ReadOptions(orientation="raw"))
    with pytest.raises(ConfigError, match=r"^trust and select have no meaning for tonic:Digits"):
        list_samples("tonic:Digits", tmp_path, trust="name")


def test_without_tonic_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(
        DatasetError, match=r"^tonic:Digits: tonic cannot be imported \(.*\); pip install tonic$"
    ):
        list_samples("tonic:Digits", tmp_path)
