"""DSEC-Det: `<split>/<sequence>/events/left/events.h5` with `object_detections/left/tracks.npy` beside it.

Label times are those of the cameras, and so are the events' once `/t_offset` is added, as the reader does.
Source: Gehrig and Scaramuzza, "Low-latency automotive vision with event cameras", Nature 2024;
src/dsec_det/directory.py of uzh-rpg/dsec-det.
"""

from pathlib import Path

from events.datasets.detection.pairs import Pair, PairedSet, in_stored_order
from events.datasets.detection.prophesee import folder_split
from events.datasets.problems import count_of, extra_files, join_some, unextracted
from events.datasets.scan import scan_tree
from events.errors import DatasetError
from events.labels.classes import label_set
from events.labels.formats import read_labels
from events.labels.table import LabelTable
from events.recording import ReadOptions

EVENTS, TRACKS = "events/left/events.h5", "object_detections/left/tracks.npy"

# Which classes are taken; DAGR and its successors evaluate two.
SELECTIONS: dict[str, tuple[str, ...]] = {"all": (), "car-pedestrian": ("car", "pedestrian")}


def find_dsec_det(root: Path, selection: str) -> PairedSet:
    """Find DSEC-Det's sequences below a folder.

    Raises:
        DatasetError: There is no sequence with events of the left camera.
    """
    tree = scan_tree(root)
    files = {file.path: file for file in tree.files}
    known = label_set("dsec-det")
    pairs = []
    for path, file in files.items():
        sequence, found, _ = path.rpartition(EVENTS)
        if found and path.endswith(EVENTS):
            labels = sequence + TRACKS
            pairs.append(Pair(path, file.size_bytes, labels if labels in files else None, folder_split(file)))
    if not pairs:
        expected = f"<split>/<sequence>/{EVENTS} with <split>/<sequence>/{TRACKS}"
        found_files = unextracted(tree.archives()) or extra_files(tree.files) or "the folder is empty"
        raise DatasetError(
            f"{root}: no sequences, expected {expected}; found: {found_files}; check the folder"
        )
    unsplit = [pair.path for pair in pairs if pair.official is None]
    return PairedSet(
        dataset="dsec-det",
        root=root,
        pairs=in_stored_order(pairs),
        read_labels=_read_tracks,
        class_names=known.class_names,
        kept_classes=SELECTIONS[selection],
        read_options=ReadOptions(sensor_hw=known.sensor_hw),
        sensor_hw=known.sensor_hw,
        selection=selection,
        problems=[
            f"{count_of(len(unsplit), 'sequence')} in no train, val or test folder, taken for training: "
            f"{join_some(unsplit)}"
            if unsplit
            else None
        ],
    )


def _read_tracks(recording: Path, labels: Path) -> LabelTable:
    """Return the tracks of a sequence."""
    return read_labels(labels, "bbox", like="dsec-det")
