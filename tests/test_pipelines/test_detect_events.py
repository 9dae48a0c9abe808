"""A detector trained on windows that are binned anew from augmented events, every epoch others."""

import pytest
from suites.tiny_detection import EXPERIMENT
from test_pipelines.test_detect import Script, assert_same_run

from pipelines.detect import run_detect
from pipelines.detect_data import prepare_detection_store, recordings_of
from pipelines.detect_folder import read_detection
from pipelines.detect_settings import load_detection
from pipelines.detect_twin import twin_of
from pipelines.display import Silent
from pipelines.errors import ExperimentError, RunError
from pipelines.run_folder import RunFolder

FRAMES = """
[augment]
flip = 0.5
roll_px = 3
zoom = 0.1
"""
EVENTS = """
[augment_events]
flip = 0.5
zoom = 0.8
translate_px = 3
time_scale = 1.3
drop = 0.2
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("augmented")
    path = folder / "tiny.toml"
    assert FRAMES in EXPERIMENT
    path.write_text(EXPERIMENT.replace(FRAMES, EVENTS), encoding="utf-8")
    return load_detection(path, [f'data.folder="{folder}"', "training.epochs=2", "evaluation.shuffled=false"])


def test_stopped_and_gone_on_with_is_the_same_to_the_bit(experiment, tmp_path):
    whole = run_detect(experiment, tmp_path / "whole", display=Silent())
    assert whole.completed
    stopped = run_detect(experiment, tmp_path / "stopped", display=Script(3))
    assert not stopped.completed
    folder = RunFolder(tmp_path / "stopped")
    assert run_detect(read_detection(folder.path), folder.path, resume=True, display=Silent()).completed
    assert_same_run(folder, whole.folder)
    plain = without_augmentation(experiment, tmp_path)
    other = run_detect(plain, tmp_path / "plain", display=Silent())
    assert other.folder.read_metrics()[0]["train_loss"] != whole.folder.read_metrics()[0]["train_loss"]


def without_augmentation(experiment, tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text(EXPERIMENT.replace(FRAMES, ""), encoding="utf-8")
    changes = [
        f'data.folder="{experiment.data.folder}"',
        "training.epochs=1",
        "evaluation.shuffled=false",
    ]
    return load_detection(path, changes)


def test_a_store_alone_does_not_have_its_events(experiment, tmp_path):
    store = prepare_detection_store(experiment.data, Silent())
    recordings = recordings_of(experiment.data)
    given = [f'data.source="{store.path}"', "training.epochs=1"]
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT.replace(FRAMES, EVENTS), encoding="utf-8")
    with pytest.raises(RunError, match=r"say where its recordings are \(--set data\.recordings=FOLDER\)"):
        run_detect(load_detection(path, given), tmp_path / "refused", display=Silent())
    named = load_detection(path, [*given, f'data.recordings="{recordings}"'])
    assert recordings_of(named.data) == recordings
    assert recordings_of(twin_of(experiment, store.path).data) == recordings
    assert twin_of(experiment, store.path).augment_events == experiment.augment_events


def test_frames_and_events_are_not_both_augmented(experiment, tmp_path):
    path = tmp_path / "both.toml"
    path.write_text(EXPERIMENT + EVENTS, encoding="utf-8")
    with pytest.raises(ExperimentError, match="augment and augment_events: both change something"):
        load_detection(path)
    path.write_text(EXPERIMENT.replace(FRAMES, EVENTS), encoding="utf-8")
    assert load_detection(path).augments_events
    assert not load_detection(path, overfit=2).augments_events
