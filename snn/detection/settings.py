"""Which detector: backbone, neck, head and neurons, and the published ones by name."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, get_args

from snn.detection.backbones.densenet import DenseNet121
from snn.detection.backbones.ltsnn import LTSNNBackbone
from snn.detection.backbones.mobilenet import MobileNet
from snn.detection.backbones.vgg import VGG11
from snn.detection.blocks import BlockOptions, BlockOrder
from snn.detection.dense_head import Readout
from snn.detection.dense_loss import DenseLossSettings
from snn.detection.grid_loss import GridLossSettings
from snn.detection.matcher import MatcherSettings
from snn.errors import ModelError, did_you_mean
from snn.models.options import POOLS, Pool
from snn.neurons.executors import EXECUTORS, Executor
from snn.neurons.settings import NEURONS, PUBLISHED, NeuronSettings
from snn.quant.settings import WeightSettings

BACKBONES: dict[str, Any] = {
    "vgg11": VGG11,
    "mobilenet": MobileNet,
    "mobilenet_full": partial(MobileNet, depthwise=False),
    "densenet121_16": partial(DenseNet121, growth=16),
    "densenet121_24": partial(DenseNet121, growth=24),
    "ltsnn": LTSNNBackbone,
}
Neck = Literal["fpn", "none"]
HeadKind = Literal["ssd", "anchor_free", "grid"]


@dataclass(frozen=True)
class PostSettings:
    """Which predictions become detections.

    Attributes:
        score_threshold: Scores must be above; of a grid, objectness.
        largest_iou: Of two boxes of a class that overlap by more, the one of lower score is left out.
        candidates: Boxes of a class looked at.
        most: Detections in an image. 100 is what COCO counts.
    """

    score_threshold: float = 0.05
    largest_iou: float = 0.5
    candidates: int = 200
    most: int = 100

    def __post_init__(self) -> None:
        for name in ("score_threshold", "largest_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ModelError(f"post.{name}: found {getattr(self, name)}, expected a number from 0 to 1")
        for name in ("candidates", "most"):
            if getattr(self, name) < 1:
                raise ModelError(f"post.{name}: found {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True)
class DetectorSettings:
    """A detector: which, how large, and of which neurons. The default is small, for frames near 96x128.

    Attributes:
        backbone: Key of `BACKBONES`.
        width: Factor on the channels of every layer; 1 is the published network.
        strides: Of the backbone's maps that are used, rising: of 4, 8, 16, 32; of ltsnn 128.
        extras: Channels of further, coarser maps behind the last.
        order: Whether blocks normalise behind the convolution or before it, see `snn.detection.blocks`.
        neuron: The neurons of every block.
        first_fixed: Whether the first block's threshold stays constant whatever the neurons' kind.
        pool: `max` or `avg` over 2x2 spikes.
        neck: `fpn`: the maps learn of each other, see `snn.detection.neck`. `none`.
        neck_channels: Of every map behind the neck, before `width`.
        head: `ssd`: from anchors. `anchor_free`: one box a cell. `grid`: LT-SNN's grid of cells.
        head_blocks: Spiking conv blocks of each of a level's two branches, for classes and boxes.
        readout: `sum` or `rate`: what the head is given of the spikes of all steps.
        prior: Probability at which every class begins; none: no bias, as the SSD-SNN has it.
        anchors_per_level: Sizes a level on average where anchors are fitted.
        least_coverage: Share of every class's boxes that fitted anchors have to reach; 0 allows any.
        loss: Of a head that is no grid.
        post: Which predictions become detections.
        grid_cells_hw, grid_boxes, grid_hidden: Of a grid: rows and columns, boxes a cell, features between
            its linear layers.
        grid_published: Whether a grid computes with the release's arithmetic, see `docs/detection.md`.
        grid_loss: Weights of a grid's loss.
        executor: What runs the neurons, see `snn.neurons.executors`.
        weights: In how many bits the weights are, by role of a layer; the head is `last`.
    """

    backbone: str = "mobilenet_full"
    width: float = 0.25
    strides: tuple[int, ...] = (4, 8, 16)
    extras: tuple[int, ...] = ()
    order: BlockOrder = "norm_last"
    neuron: NeuronSettings = field(default_factory=NeuronSettings)
    first_fixed: bool = True
    pool: Pool = "max"
    neck: Neck = "fpn"
    neck_channels: int = 128
    head: HeadKind = "ssd"
    head_blocks: int = 0
    readout: Readout = "rate"
    prior: float | None = 0.01
    anchors_per_level: int = 3
    least_coverage: float = 0.9
    loss: DenseLossSettings = field(default_factory=DenseLossSettings)
    post: PostSettings = field(default_factory=PostSettings)
    grid_cells_hw: tuple[int, int] = (6, 8)
    grid_boxes: int = 2
    grid_hidden: int = 512
    grid_published: bool = False
    grid_loss: GridLossSettings = field(default_factory=GridLossSettings)
    executor: Executor = "auto"
    weights: WeightSettings = field(default_factory=WeightSettings)

    # Filled below: settings to start from, by name.
    PRESETS: ClassVar[dict[str, "DetectorSettings"]] = {}

    def __post_init__(self) -> None:
        known: dict[str, tuple[str, ...]] = {
            "backbone": tuple(BACKBONES),
            "order": get_args(BlockOrder),
            "pool": tuple(POOLS),
            "neck": get_args(Neck),
            "head": get_args(HeadKind),
            "readout": get_args(Readout),
            "executor": EXECUTORS,
        }
        for name, choices in known.items():
            found = getattr(self, name)
            if found not in choices:
                hint = did_you_mean(found, choices)
                raise ModelError(f"{name}: found {found!r}, expected one of {', '.join(choices)}{hint}")
        if not 0 < self.width < float("inf"):
            raise ModelError(f"width: found {self.width}, expected a number above 0")
        if self.prior is not None and not 0 < self.prior < 1:
            raise ModelError(f"prior: found {self.prior}, expected a number between 0 and 1, or none")
        if not 0 <= self.least_coverage <= 1:
            raise ModelError(f"least_coverage: found {self.least_coverage}, expected a number from 0 to 1")
        for name, least in (
            ("neck_channels", 1),
            ("head_blocks", 0),
            ("anchors_per_level", 1),
            ("grid_boxes", 1),
            ("grid_hidden", 1),
        ):
            if getattr(self, name) < least:
                raise ModelError(f"{name}: found {getattr(self, name)}, expected at least {least}")
        if self.head == "grid" and (self.neck != "none" or self.extras or len(self.strides) != 1):
            raise ModelError(
                "head: found 'grid', which sees one map, expected neck 'none', no extras and one stride"
            )

    def block_options(self) -> BlockOptions:
        """Return what all blocks have in common."""
        return BlockOptions(
            neuron=self.neuron,
            first_neuron=self.neuron.fixed() if self.first_fixed else self.neuron,
            order=self.order,
            pool=self.pool,
            width=self.width,
            executor=self.executor,
        )


# The SSD-SNN as published: Cordone et al., IJCNN 2022, and their released code. Smooth-L1, no band that is
# left out of the loss, heads without a bias. Not theirs: the state begins at rest for every sample.
_SSD_SNN = DetectorSettings(
    backbone="vgg11",
    width=1.0,
    strides=(4, 8, 32),
    extras=(640, 320, 320),
    order="norm_first",
    neuron=NEURONS["plif"],
    neck="none",
    readout="sum",
    prior=None,
    loss=DenseLossSettings(box_loss="smooth_l1", box_weight=1.0, matcher=MatcherSettings(negative_iou=0.5)),
    post=PostSettings(score_threshold=0.01, largest_iou=0.45),
)
# LT-SNN's detector as released; with T = 1 there, and the same network with a constant threshold.
_LTSNN = DetectorSettings(
    backbone="ltsnn",
    width=1.0,
    strides=(128,),
    neuron=PUBLISHED["lt_detector"],
    first_fixed=False,
    neck="none",
    head="grid",
    readout="sum",
    post=PostSettings(score_threshold=0.4),
)

DETECTORS: dict[str, DetectorSettings] = {
    "small": DetectorSettings(),
    "ssd_snn_vgg11": _SSD_SNN,
    "ssd_snn_mobilenet64": replace(_SSD_SNN, backbone="mobilenet_full", strides=(4, 16, 32)),
    "ssd_snn_mobilenet64_depthwise": replace(_SSD_SNN, backbone="mobilenet", strides=(4, 16, 32)),
    "ssd_snn_densenet121_16": replace(_SSD_SNN, backbone="densenet121_16"),
    "ssd_snn_densenet121_24": replace(_SSD_SNN, backbone="densenet121_24"),
    "ltsnn": _LTSNN,
    "ltsnn_fixed": replace(_LTSNN, neuron=PUBLISHED["lt_detector"].fixed()),
    "ltsnn_published": replace(_LTSNN, grid_published=True),
}
DetectorSettings.PRESETS.update(DETECTORS)
