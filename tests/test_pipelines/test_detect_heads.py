"""Every head learns eight recorded windows by heart, and every recipe ends as a try."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.detect import run_detect
from pipelines.detect_data import prepare_detection_store, split_windows
from pipelines.detect_evaluate import score_windows
from pipelines.detect_settings import EvaluationSettings, embedded_detections, load_detection
from pipelines.display import Silent
from snn.detection.detector import build_detector, fit_detector_anchors
from snn.detection.settings import DetectorSettings

WINDOWS, STEPS = 8, 110
SHAPES = (
    "data.shapes.recordings=6",
    "data.shapes.duration_us=300_000",
    "data.shapes.sensor.sensor_hw=[48, 64]",
    "data.binning.frames=2",
    "data.binning.micro_bins=1",
    "data.workers=1",
)
# Smaller still: a test of the machinery, not of a minute.
SMOKE = (
    "data.shapes.duration_us=300_000",
    "data.workers=1",
    "training.threads=1",
)
DENSE = DetectorSettings(strides=(8,), neck="none", least_coverage=0.5)
HEADS = {
    "anchor_free": replace(DENSE, head="anchor_free"),
    "ssd": DENSE,
    "grid": replace(DENSE, head="grid", strides=(16,), grid_cells_hw=(3, 4), grid_hidden=256),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store of moving shapes, and eight of its windows."""
    folder = tmp_path_factory.mktemp("shapes")
    data = load_detection("shapes", [*SHAPES, f'data.folder="{folder}"'], overfit=WINDOWS).data
    store = prepare_detection_store(data, Silent())
    return store, split_windows(store, data, seed=0).train


@pytest.mark.parametrize("head", HEADS)
def test_eight_windows_are_learned_by_heart(recorded, head):
    store, index = recorded
    settings, hw, classes = HEADS[head], store.frame_hw, len(store.class_names)
    frames = torch.from_numpy(np.stack([store.frames.read(int(i)) for i in index], axis=1)).float()
    truth = [store.boxes_of(int(i)) for i in index]
    boxes = [torch.from_numpy(of_window.xyxy.copy()) for of_window in truth]
    labels = [torch.from_numpy(of_window.class_id.astype(np.int64)) for of_window in truth]
    anchors = None
    if head == "ssd":
        anchors, _ = fit_detector_anchors(
            settings, torch.cat(boxes), torch.cat(labels), input_hw=hw, classes=classes
        )
    torch.manual_seed(0)
    detector = build_detector(
        settings, in_channels=frames.shape[2], input_hw=hw, classes=classes, anchors=anchors
    )

    def ap50():
        detector.eval()
        with torch.no_grad():
            found = detector.detections(detector(frames), score_threshold=0.05)
        by_window = dict(zip(index.tolist(), found, strict=True))
        return score_windows(store, index, by_window, EvaluationSettings()).ap50

    assert ap50() < 0.2
    detector.train()
    optimiser = torch.optim.Adam(detector.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        detector.loss(detector(frames), boxes, labels).total.backward()
        optimiser.step()
        schedule.step()
    assert ap50() >= 0.9


@pytest.mark.parametrize("name", embedded_detections())
def test_every_recipe_ends_as_a_try(name, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "tried"
    experiment = load_detection(name, [*SMOKE, f'data.folder="{folder}"'], smoke=True)
    outcome = run_detect(experiment, folder / name, display=Silent())
    assert outcome.completed
    assert [record["epoch"] for record in outcome.folder.read_metrics()] == [1]
    test = outcome.folder.read_results()["test"]
    # One recording is tested; published recipes leave out its labels before their first.
    labels_us = experiment.data.shapes.label_times_us
    assert test["windows"] == (labels_us >= experiment.data.windows.first_us).sum()
    assert len(test["firing_rates"]) >= 8
    assert "protocol" in outcome.folder.report.read_text(encoding="utf-8")
