"""The nine real windows of PEDRo's repository: converted, learned, scored and drawn."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from events.inspect.label_sheet import BOX_RGB
from events.store.detection import open_detection_store
from pipelines.detect import run_detect
from pipelines.detect_seen import by_polarity
from pipelines.detect_settings import load_detection
from pipelines.display import Silent
from tests.places import shared_file

# Smaller than the recipe alone in what costs time.
SMALL = (
    "data.workers=1",
    "detector.width=0.0625",
    "detector.executor=reference",
    "training.epochs=4",
    "training.device=cpu",
    "training.threads=1",
    "training.learning_rate=5e-3",
    "evaluation.operating_score=0.0",
    "evaluation.shuffled=false",
)


@pytest.fixture(scope="module")
def pedro():
    return shared_file("samples/pedro/examples")


@pytest.fixture(scope="module")
def outcome(pedro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pedro")
    places = [f'data.folder="{folder}"', f'data.source="{pedro}"']
    return run_detect(load_detection("pedro", [*places, *SMALL], overfit=9), folder / "run", display=Silent())


def test_every_window_holds_its_own_events_and_boxes(outcome, pedro):
    store = open_detection_store(outcome.store)
    assert store.frames.shape == (9, 4, 4, 260, 346)
    assert (store.class_names, store.window_us, store.sensor_hw) == (("person",), 40_000, (260, 346))
    for index in range(9):
        recording = pedro / store.recording_names[store.recording[index]]
        t, x, y, p = np.load(recording).T
        annotation = ElementTree.parse(pedro / "xml" / recording.parent.name / f"{recording.stem}.xml")
        boxes = [
            [float(box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax")]
            for box in annotation.iter("bndbox")
        ]
        assert store.boxes_of(index).xyxy.tolist() == boxes
        # The window ends behind the last event, 40 ms long: it may begin behind the first ones.
        assert store.t_end_us[index] == t[-1] + 1
        inside = t >= t[-1] + 1 - 40_000
        assert inside.sum() >= len(t) - 20
        happened = np.zeros((2, 260, 346), bool)
        happened[p[inside], y[inside], x[inside]] = True
        np.testing.assert_array_equal(by_polarity(store.frames.read(index)) > 0, happened)


def test_the_windows_are_learned_and_scored(outcome):
    metrics, results = outcome.folder.read_metrics(), outcome.results
    assert metrics[-1]["train_loss"] < 0.9 * metrics[0]["train_loss"]
    assert results["overfit"] is not None
    assert results["test"]["windows"] == results["train_windows"] == 9
    (person,) = results["test"]["scores"]["classes"]
    assert (person["name"], person["boxes"]) == ("person", 13)
    assert outcome.folder.read_about()["anchor_coverage"] == {"person": 1.0}


def test_report_and_pictures_are_drawn(outcome):
    pictures = outcome.folder.pictures
    with Image.open(pictures / "windows.png") as sheet:
        drawn = np.asarray(sheet.convert("RGB"))
    # Outlines of boxes that are a hundred and more pixels around, 2 pixels wide.
    assert (drawn == BOX_RGB).all(axis=-1).sum() > 8 * 2 * 100
    with Image.open(pictures / "clip.gif") as clip:
        assert clip.n_frames == 9
    page = outcome.folder.report.read_text(encoding="utf-8")
    assert "Overfit on purpose" in page
    with np.load(outcome.folder.seen) as seen:
        assert "frame0017525.npy" in seen["windows_recording"].tolist()
