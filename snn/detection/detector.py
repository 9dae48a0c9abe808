"""The detector: frames in, boxes out; built from settings, with state that is carried only on purpose."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from snn.detection.anchor_fit import Coverage, fit_anchors
from snn.detection.anchors import (
    SSD_SNN_RATIOS,
    AnchorSet,
    place_cells,
    ssd_snn_anchors,
    strides_of,
    usual_anchors,
)
from snn.detection.blocks import Hw
from snn.detection.box_code import CELL_WEIGHTS, SSD_WEIGHTS, Weights
from snn.detection.dense_head import DenseHead
from snn.detection.dense_loss import check_truth, dense_detections, dense_loss
from snn.detection.grid import GridSettings
from snn.detection.grid_head import GridHead, grid_detections, grid_locations
from snn.detection.grid_loss import grid_loss
from snn.detection.neck import ExtraMaps, SpikingFPN
from snn.detection.predictions import DetectionLoss, Detections, Predictions
from snn.detection.settings import BACKBONES, DETECTORS, DetectorSettings
from snn.errors import ModelError, did_you_mean
from snn.neurons.memory import Memory
from snn.neurons.modules import Neuron
from snn.quant.apply import quantise_weights


class Detector(nn.Module):
    """Backbone, further maps, neck and head.

    Nothing is kept between calls: every window begins at rest, unless it is handed the state that the window
    before it ended with.

    Attributes:
        settings: What it was built from.
        in_channels, input_hw, classes: Of the frames it takes, and number of classes K.
        anchors: Sizes of its anchors; None of a head without.
        maps_hw: Rows and columns of the maps the head sees, finest first.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        *,
        in_channels: int,
        input_hw: Hw,
        classes: int,
        anchors: AnchorSet | None = None,
    ) -> None:
        """Build the layers; see `build_detector`."""
        super().__init__()
        for name, count in (("classes", classes), ("in_channels", in_channels)):
            if count < 1:
                raise ModelError(f"{name}: found {count}, expected at least 1")
        self.settings, self.in_channels, self.classes = settings, in_channels, classes
        self.input_hw = input_hw = (int(input_hw[0]), int(input_hw[1]))
        options = settings.block_options()
        self.backbone = BACKBONES[settings.backbone](
            options, in_channels=in_channels, input_hw=input_hw, strides=settings.strides
        )
        self.extras = ExtraMaps(
            options, channels=self.backbone.channels, maps_hw=self.backbone.maps_hw, extras=settings.extras
        )
        given: ExtraMaps | SpikingFPN = self.extras
        if settings.neck == "fpn":
            self.neck = given = SpikingFPN(
                options,
                channels=self.extras.channels,
                maps_hw=self.extras.maps_hw,
                size=settings.neck_channels,
            )
        self.maps_hw: tuple[Hw, ...] = given.maps_hw
        self.anchors: AnchorSet | None = None
        if settings.head == "grid":
            self.head: DenseHead | GridHead = self._grid_head(given.channels[-1])
            return
        if settings.head == "ssd":
            strides = strides_of(self.maps_hw, input_hw=input_hw)
            self.anchors = anchors if anchors is not None else usual_anchors(strides)
            locations = self.anchors.place(self.maps_hw, input_hw=input_hw)
        else:
            locations = torch.cat([place_cells(hw, input_hw=input_hw) for hw in self.maps_hw])
        self.head = DenseHead(
            options,
            channels=given.channels,
            per_cell=self.anchors.per_cell if self.anchors else (1,) * len(self.maps_hw),
            locations=locations,
            classes=classes,
            blocks=settings.head_blocks,
            readout=settings.readout,
            prior=settings.prior,
        )

    def _grid_head(self, channels: int) -> GridHead:
        s = self.settings
        grid = GridSettings(
            cells_hw=s.grid_cells_hw,
            boxes_per_cell=s.grid_boxes,
            classes=self.classes,
            image_hw=self.input_hw,
            arithmetic="published" if s.grid_published else "exact",
        )
        rows, columns = self.maps_hw[-1]
        return GridHead(
            grid,
            features=channels * rows * columns,
            hidden=s.grid_hidden,
            locations=grid_locations(grid),
            readout=s.readout,
        )

    @property
    def box_weights(self) -> Weights:
        """Weights of the code of boxes."""
        return SSD_WEIGHTS if self.anchors is not None else CELL_WEIGHTS

    def forward(self, frames: Tensor, state: Mapping[str, Tensor] | None = None) -> Predictions:
        """Return the predictions at the end of one window of each sample.

        Args:
            frames: Shape [T, B, C, H, W].
            state: That of the predictions for the windows just before these, of the same samples in the same
                order; None begins at rest.

        Raises:
            ModelError: The frames are not of the shape the detector was built for, or the state is another's.
        """
        expected = (self.in_channels, *self.input_hw)
        if frames.dim() != 5 or tuple(frames.shape[2:]) != expected:
            shape = ", ".join(str(n) for n in expected)
            raise ModelError(f"frames: found shape {tuple(frames.shape)}, expected [T, B, {shape}]")
        # By the layer and not by its name: layers may be wrapped or copied.
        names: dict[nn.Module, str] = {
            layer: name for name, layer in self.named_modules() if isinstance(layer, Neuron)
        }
        memory = Memory(self._membranes(names, state, frames.shape[1]))
        # As the weights lie; else the first convolution would bring them so again on its way back.
        steps = frames.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        frames = steps.unflatten(0, frames.shape[:2])
        maps = self.extras(self.backbone(frames, memory), memory)
        if self.settings.neck == "fpn":
            maps = self.neck(maps, memory)
        found = self.head(maps, memory)
        return found._replace(state={names[layer]: v.detach() for layer, v in memory.after.items()})

    def _membranes(
        self, names: Mapping[nn.Module, str], state: Mapping[str, Tensor] | None, samples: int
    ) -> dict[nn.Module, Tensor]:
        """Return a state by layer, and see that it is one of this detector and batch."""
        if state is None:
            return {}
        if set(state) != set(names.values()):
            missing = sorted(set(names.values()) ^ set(state))
            raise ModelError(
                f"state: found {len(state)} layers for {len(names)} of neurons, {missing[0]} in one alone; "
                "expected the state that this detector's predictions came with"
            )
        for name, v in state.items():
            if len(v) != samples:
                raise ModelError(
                    f"state: found {len(v)} samples in {name}, expected {samples}, as in the frames"
                )
        return {layer: state[name] for layer, name in names.items()}

    def begin_anew(self, state: Mapping[str, Tensor], starts: Tensor) -> dict[str, Tensor]:
        """Return a state in which some samples are at rest, as where another recording begins.

        Args:
            state: Of predictions.
            starts: Which samples begin anew, bool, shape [B].
        """
        layers = dict(self.named_modules())
        found = {}
        for name, v in state.items():
            rest = cast(Neuron, layers[name]).settings.rest
            at = starts.to(v.device).reshape(-1, *[1] * (v.dim() - 1))
            found[name] = torch.where(at, torch.full_like(v, rest), v)
        return found

    def loss(
        self,
        predictions: Predictions,
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        ignore: Sequence[Tensor] | None = None,
    ) -> DetectionLoss:
        """Return the loss against the boxes of each image.

        Args:
            predictions: Of this detector.
            boxes: For each image x0, y0, x1, y1 in pixels, shape [M_b, 4], none of them empty.
            labels: For each image the class numbers, int64, shape [M_b].
            ignore: For each image which boxes are neither to be found nor background, bool, shape [M_b]; a
                grid does without those.

        Raises:
            DetectionError: They do not fit the predictions, or a box is empty.
        """
        if isinstance(self.head, DenseHead):
            return dense_loss(
                predictions,
                boxes,
                labels,
                ignore,
                settings=self.settings.loss,
                weights=self.box_weights,
                with_anchors=self.anchors is not None,
            )
        output = cast(Tensor, predictions.grid).float()
        check_truth(boxes, labels, ignore, images=len(output), classes=self.classes)
        if ignore is not None:
            boxes = [found[~left.to(found.device)] for found, left in zip(boxes, ignore, strict=True)]
            labels = [found[~left.to(found.device)] for found, left in zip(labels, ignore, strict=True)]
        parts = grid_loss(output, boxes, labels, grid=self.head.grid, settings=self.settings.grid_loss)
        places = (parts.total - parts.classes).detach()
        return DetectionLoss(parts.total, parts.classes.detach(), places, sum(len(found) for found in labels))

    def detections(
        self, predictions: Predictions, *, score_threshold: float | None = None, most: int | None = None
    ) -> list[Detections]:
        """Return the detections of each image, best first, cut to the image.

        Args:
            predictions: Of this detector.
            score_threshold: In place of that of the settings.
            most: In place of that of the settings.

        Raises:
            DetectionError: A prediction is not a number.
        """
        post = self.settings.post
        threshold = post.score_threshold if score_threshold is None else score_threshold
        most = post.most if most is None else most
        if isinstance(self.head, GridHead):
            return grid_detections(
                cast(Tensor, predictions.grid),
                self.head.grid,
                score_threshold=threshold,
                largest_iou=post.largest_iou,
                most=most,
            )
        return dense_detections(
            predictions,
            image_hw=self.input_hw,
            weights=self.box_weights,
            score_threshold=threshold,
            largest_iou=post.largest_iou,
            candidates=post.candidates,
            most=most,
        )


def build_detector(
    settings: DetectorSettings,
    *,
    in_channels: int,
    input_hw: Hw,
    classes: int,
    anchors: AnchorSet | None = None,
) -> Detector:
    """Build a detector: frames [T, B, C, H, W] in, predictions out.

    Weights are drawn from torch's global generator and lie channels last in memory.

    Args:
        settings: Which detector.
        in_channels: Planes C of a frame: 2 for polarities, 2 n for voxel cubes of n micro bins.
        input_hw: Height and width of the frames in pixels.
        classes: Number of classes K.
        anchors: Sizes for each level, as `fit_detector_anchors` gives them; None takes `usual_anchors`, or
            the SSD-SNN's own where it has its six levels. Other heads do without.

    Raises:
        ModelError: The frames are too small for the network, or a count is below 1.
        DetectionError: The anchors are for another number of levels.
    """
    if (
        anchors is None
        and settings.head == "ssd"
        and settings.order == "norm_first"
        and len(settings.strides) + len(settings.extras) == len(SSD_SNN_RATIOS)
    ):
        anchors = ssd_snn_anchors(input_hw)
    detector = Detector(
        settings, in_channels=in_channels, input_hw=input_hw, classes=classes, anchors=anchors
    )
    quantise_weights(detector, settings.weights)
    return detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def fit_detector_anchors(
    settings: DetectorSettings, boxes: Tensor, labels: Tensor, *, input_hw: Hw, classes: int, seed: int = 0
) -> tuple[AnchorSet, Coverage]:
    """Fit anchors to the boxes of training data, for the maps that a detector of these settings has.

    Args:
        settings: Which detector; `anchors_per_level` and `least_coverage` say how.
        boxes: x0, y0, x1, y1 in pixels of the frames, shape [M, 4].
        labels: Class numbers, int64, shape [M].
        input_hw: Height and width of the frames in pixels.
        classes: Number of classes K.
        seed: Of the draws.

    Raises:
        DetectionError: See `snn.detection.anchor_fit.fit_anchors`.
        ModelError: The frames are too small for the network.
    """
    # Of the same maps with a channel each and without anchors; nothing drawn for it is seen elsewhere.
    narrow = replace(settings, head="anchor_free", width=1e-9)
    with torch.random.fork_rng(devices=[]):
        alike = Detector(narrow, in_channels=1, input_hw=input_hw, classes=1)
    return fit_anchors(
        boxes,
        labels,
        classes=classes,
        maps_hw=alike.maps_hw,
        input_hw=input_hw,
        per_level=settings.anchors_per_level,
        least_coverage=settings.least_coverage,
        seed=seed,
    )


def detector_settings(name: str) -> DetectorSettings:
    """Return a detector by name, a key of `DETECTORS`.

    Raises:
        ModelError: There is none of this name.
    """
    if name not in DETECTORS:
        hint = did_you_mean(name, DETECTORS)
        raise ModelError(f"detector: found {name!r}, expected one of {', '.join(DETECTORS)}{hint}")
    return DETECTORS[name]
