"""Classes and sensors of the published sets of labelled boxes; a class's number is its place in the list."""

from dataclasses import dataclass

from events.errors import ConfigError, did_you_mean
from events.labels.table import AUTO, MANUAL


@dataclass(frozen=True)
class LabelSet:
    """What the label files of a published set do not say.

    Attributes:
        class_names: Names of the classes in the order of their numbers.
        sensor_hw: Height and width in pixels; None where recordings differ.
        kind: MANUAL or AUTO: who drew the boxes.
        columns: Order of the columns of its recordings, as `events.recording.ReadOptions.columns`; None where
            they say it.
    """

    class_names: tuple[str, ...]
    sensor_hw: tuple[int, int] | None
    kind: int = MANUAL
    columns: str | None = None


# Sources: the README of prophesee-automotive-dataset-toolbox (Gen1 and 1Mpx, of which 0 to 2 are evaluated);
# CLASSES in src/dsec_det/label.py of uzh-rpg/dsec-det; eTraM's documentation (three groups, as its _bbox.npy
# beside the recordings have them); the XML files of PEDRo.
LABEL_SETS: dict[str, LabelSet] = {
    "gen1": LabelSet(("car", "pedestrian"), (240, 304)),
    "1mpx": LabelSet(
        ("pedestrian", "two-wheeler", "car", "truck", "bus", "traffic sign", "traffic light"),
        (720, 1280),
        AUTO,
    ),
    "dsec-det": LabelSet(
        ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train"), (480, 640), AUTO
    ),
    "etram": LabelSet(("pedestrian", "vehicle", "micromobility"), (720, 1280)),
    "pedro": LabelSet(("person",), (260, 346), columns="t:us,x,y,p"),
    # Made by `events synth shapes`, of any size.
    "shapes": LabelSet(("circle", "square", "triangle"), None, AUTO),
}


def label_set(name: str) -> LabelSet:
    """Return what is known of a published set.

    Raises:
        ConfigError: Its name is none of `LABEL_SETS`.
    """
    if name not in LABEL_SETS:
        known = ", ".join(LABEL_SETS)
        raise ConfigError(f"label set {name!r} is unknown; known are {known}{did_you_mean(name, LABEL_SETS)}")
    return LABEL_SETS[name]
