"""Which check a golden file belongs to, by the pattern of its name."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

from golden.vector import Vector

# Pattern of the file name, without suffix, to "module:function" in this folder. The first that fits holds.
# Modules are imported when a file of theirs is found, so that checking one family needs no other.
KINDS: dict[str, str] = {
    "lt_neuron_*": "neurons:check_lt_neuron",
    "lif_ge_*": "neurons:check_lif",
    "lif_gt_*": "neurons:check_lif",
    "lif_floor23*": "neurons:check_lif_floor",
    "lif_s[1-8]*": "lanes:check_lif",
    "qlif_*": "neurons:check_quantlif",
    "qmem_*": "membranes:check_levels",
    "node_s[1-8]*": "lanes:check_node",
    "kernel_s[1-8]*": "lanes:check_kernel",
    "soft_s[1-8]*": "lanes:check_soft",
    "quant_*": "levels:check_levels",
    "net_vgg16_*": "converted:check_network",
    "net_resnet20_*": "converted:check_network",
    "wq_*": "quant:check_weights",
    "aq_*": "quant:check_activations",
    "mask_*": "gates:check_target",
    "binarize_ste*": "gates:check_binarise",
    "gate_channel_*": "gates:check_channel",
    "gate_spatial_*": "gates:check_spatial",
    "gate_squeeze_*": "gates:check_squeeze",
    "gate_gumbel_*": "gates:check_gumbel",
    "gate_partial_sum_*": "gates:check_partial_sum",
    "export_fuse_fixedpoint*": "export:check_fuse_fixedpoint",
    "tet_loss*": "losses:check_tet_mlif",
    "tet_*": "losses:check_tet",
    "det_class_loss*": "losses:check_class_loss",
    "data_decode_5byte*": "recordings:check_decode_5byte",
    "data_decode_aedat2*": "recordings:check_decode_aedat2",
    "data_decode_aedat31*": "recordings:check_decode_aedat31",
    "data_decode_dat*": "recordings:check_decode_dat",
    "data_frames_*": "frames:check_last_polarity",
    "data_histogram_counts*": "frames:check_histogram",
    "data_voxel_cube*": "frames:check_voxel_cube",
    "data_augment*": "boxes:check_augment",
    "data_box_crop*": "boxes:check_box_crop",
    "data_caltech_box_motion*": "boxes:check_box_motion",
    "det_grid_loss*": "detection:check_grid_loss",
    "det_voc_ap*": "detection:check_voc_ap",
    "net_vggsnn_*": "networks:check_vggsnn",
    "net_sdt_*": "networks:check_sdt",
    "events_to_frames*": "frames:check_events_to_frames",
    "frames_s[1-8]*": "frames:check_levels",
    "frames_plain*": "frames:check_levels",
}

# A recording beside the .npz of the same name: what dat2mat.m made of it.
BESIDE_RECORDING = "recordings:check_dat2mat"


def check_for(path: Path) -> Callable[[Vector], None] | None:
    """Return the check of a golden file; None where its kind is not known."""
    if path.with_suffix(".aedat").exists():
        return _load(BESIDE_RECORDING)
    for pattern, name in KINDS.items():
        if fnmatchcase(path.stem, pattern):
            return _load(name)
    return None


def _load(name: str) -> Callable[[Vector], None]:
    module, function = name.split(":")
    return getattr(import_module(f"golden.{module}"), function)
