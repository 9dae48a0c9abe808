"""A detection experiment whose data is made in a second and whose three epochs take a few."""

from pathlib import Path

from events.store.detection import DetectionStore
from pipelines.detect_data import prepare_detection_store
from pipelines.detect_settings import load_detection
from pipelines.display import Silent

EXPERIMENT = """
description = "two seconds of moving shapes"

[data]
workers = 1

[data.windows]
window_us = 50_000

[data.binning]
split = "window"
window_us = 50_000
frames = 2
value = "binary"

[data.shapes]
recordings = 3
duration_us = 400_000
size_share = [0.4, 0.7]

[data.shapes.sensor]
sensor_hw = [48, 64]

[augment]
flip = 0.5
roll_px = 3
zoom = 0.1

[detector]
executor = "reference"
head = "anchor_free"
strides = [8, 16]
width = 0.0625

[detector.post]
score_threshold = 0.0

[training]
epochs = 3
batch_size = 3
learning_rate = 1e-2
average_decay = 0.9
accumulate = 2
device = "cpu"
threads = 1
checkpoint_every_s = 0.0

[evaluation]
operating_score = 0.05
"""


def write_experiment(folder: Path) -> Path:
    """Write the experiment into a folder and return its file."""
    path = folder / "tiny.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return path


def make_store(experiment: Path, folder: Path) -> DetectionStore:
    """Return the store of an experiment's file, made in a folder."""
    return prepare_detection_store(load_detection(experiment, [f'data.folder="{folder}"']).data, Silent())
