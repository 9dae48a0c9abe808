"""A try of any experiment that ends within a minute on two cores: data made here, narrow, one epoch.

What is trained stays the experiment's: network, neurons, weights, gates, loss, optimizer, schedule,
augmentation. How much is trained, and on what, does not.
"""

from collections.abc import Mapping
from typing import Any

from events.datasets.images.picture import is_pictures

# The data sets that are made here instead of found somewhere: recordings, and pictures.
MADE_HERE = "digits"
PICTURES_MADE_HERE = "digit-pictures"

# Of each digit: three or more for training, one for validation and for testing.
RECORDINGS_PER_CLASS = 5
PICTURES_PER_CLASS = 10
VALIDATION_SHARE = 0.3
SIZE_PX = 32
MOST_STEPS = {"frames": 4, "pictures": 2}
WIDTH = 0.0625

Change = tuple[list[str], Any]


def has_pictures(dataset: str) -> bool:
    """Whether a data set's samples are pictures rather than recordings."""
    return dataset == PICTURES_MADE_HERE or is_pictures(dataset)


def smoke_changes(table: Mapping[str, Any]) -> list[Change]:
    """Return what to change in an experiment's table, as names and values, to make it a try."""
    data, model = table.get("data", {}), table.get("model", {})
    binning = data.get("binning", {})
    pictures = has_pictures(data.get("dataset", MADE_HERE))
    changes: dict[str, Any] = {
        "name": f"{table.get('name', 'experiment')}-smoke",
        "data.dataset": PICTURES_MADE_HERE if pictures else MADE_HERE,
        "data.split": "none",
        "data.validation_share": VALIDATION_SHARE,
        "data.digits.per_class": PICTURES_PER_CLASS if pictures else RECORDINGS_PER_CLASS,
        "data.digits.duration_us": 100_000,
        "data.binning.size_hw": [SIZE_PX, SIZE_PX],
        "model.width": WIDTH,
        # Compiled neurons take longer to compile than all the rest.
        "model.executor": "reference",
        "training.epochs": 1,
        "training.batch_size": 10,
        "training.warmup_epochs": 0.0,
        "training.device": "cpu",
        "training.devices": 1,
        "training.precision": "fp32",
    }
    if pictures:
        changes["model.steps"] = min(model.get("steps", 1), MOST_STEPS["pictures"])
        # Digits are grey.
        changes["model.input_scale"] = "none" if model.get("input_scale", "none") == "none" else "unit"
    else:
        changes["data.binning.frames"] = min(binning.get("frames", 10), MOST_STEPS["frames"])
        if binning.get("levels") and changes["data.binning.frames"] < binning.get("frames", 10):
            # Fewer frames are made of fewer sub-frames.
            changes["data.binning.sub_frames"] = changes["data.binning.binary_frames"] = "none"
    if "sparsity" in model:
        changes["model.sparsity.warm_up_batches"] = 1
    return [(name.split("."), value) for name, value in changes.items()]
