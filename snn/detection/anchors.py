"""Anchors: the boxes that predictions begin from, of a few sizes in every cell of every map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn.errors import DetectionError

Size = tuple[float, float]


@dataclass(frozen=True)
class AnchorSet:
    """Sizes of the anchors of each level.

    Attributes:
        sizes: For each level, widths and heights in pixels; at least one size a level.
    """

    sizes: tuple[tuple[Size, ...], ...]

    def __post_init__(self) -> None:
        for level, sizes in enumerate(self.sizes):
            if not sizes:
                raise DetectionError(
                    f"anchors: found none at level {level}, expected at least one size a level"
                )
            for size in sizes:
                if len(size) != 2 or not all(math.isfinite(side) and side > 0 for side in size):
                    raise DetectionError(
                        f"anchors: found {size} at level {level}, expected width and height above 0 in pixels"
                    )

    @classmethod
    def from_lists(cls, sizes: Sequence[Sequence[Sequence[float]]]) -> "AnchorSet":
        """Return the anchors that `as_lists` gave."""
        return cls(tuple(tuple((float(w), float(h)) for w, h in level) for level in sizes))

    def as_lists(self) -> list[list[list[float]]]:
        """Return the sizes as plain lists, level by level, for a file."""
        return [[[width, height] for width, height in level] for level in self.sizes]

    @property
    def per_cell(self) -> tuple[int, ...]:
        """Number of anchors in a cell, for each level."""
        return tuple(len(level) for level in self.sizes)

    def place(self, maps_hw: Sequence[tuple[int, int]], *, input_hw: tuple[int, int]) -> Tensor:
        """Return every anchor: x0, y0, x1, y1 in pixels, float32, shape [A, 4]; they may leave the image.

        In order of levels, rows, columns and sizes. Cells divide the image evenly, as those of SSD do.

        Args:
            maps_hw: Rows and columns of the map of each level.
            input_hw: Height and width of the image in pixels.

        Raises:
            DetectionError: There are not as many maps as levels.
        """
        if len(maps_hw) != len(self.sizes):
            raise DetectionError(
                f"anchors: found {len(self.sizes)} levels for {len(maps_hw)} maps, expected as many"
            )
        placed = []
        for sizes, hw in zip(self.sizes, maps_hw, strict=True):
            cells = place_cells(hw, input_hw=input_hw).double()
            centre = (cells[:, None, :2] + cells[:, None, 2:]) / 2
            half = torch.tensor(sizes, dtype=torch.float64) / 2
            placed.append(torch.cat([centre - half, centre + half], dim=-1).flatten(0, 1))
        return torch.cat(placed).float()


def place_cells(map_hw: tuple[int, int], *, input_hw: tuple[int, int]) -> Tensor:
    """Return the cells of a map, x0, y0, x1, y1 in pixels, float32, shape [rows * columns, 4]."""
    rows, columns = map_hw
    y = torch.arange(rows + 1, dtype=torch.float64) * (input_hw[0] / rows)
    x = torch.arange(columns + 1, dtype=torch.float64) * (input_hw[1] / columns)
    corner, opposite = (
        torch.stack(torch.meshgrid(x[s], y[s], indexing="xy"), -1) for s in (slice(-1), slice(1, None))
    )
    return torch.cat([corner, opposite], dim=-1).flatten(0, 1).float()


def strides_of(maps_hw: Sequence[tuple[int, int]], *, input_hw: tuple[int, int]) -> tuple[float, ...]:
    """Return how many pixels apart the cells of each map are: the mean of both axes, a geometric one."""
    return tuple(math.sqrt(input_hw[0] / hw[0] * (input_hw[1] / hw[1])) for hw in maps_hw)


def usual_anchors(strides: Sequence[float]) -> AnchorSet:
    """Return nine sizes a level for objects of any kind, where there are no boxes to fit anchors to.

    Four strides large, times 1, 2^(1/3) and 2^(2/3), each 1:2, 1:1 and 2:1. Source: RetinaNet (Lin et al.,
    "Focal Loss for Dense Object Detection", ICCV 2017, section 4).
    """
    return AnchorSet(
        tuple(
            tuple(
                (4 * stride * 2 ** (octave / 3) * ratio**0.5, 4 * stride * 2 ** (octave / 3) / ratio**0.5)
                for octave in range(3)
                for ratio in (0.5, 1.0, 2.0)
            )
            for stride in strides
        )
    )


# Ratios of sides of the SSD-SNN at its six levels, each also turned.
# Source: Cordone et al., "Object Detection with Spiking Neural Networks on Automotive Event Data", 2022.
SSD_SNN_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD_SNN_SCALES = (0.05, 0.80)


def ssd_snn_anchors(input_hw: tuple[int, int]) -> AnchorSet:
    """Return the anchors of the SSD-SNN: 4, 6, 6, 6, 4 and 4 a cell at its six levels.

    With s_k = 0.05 + 0.15 k for k from 0 to 5 and s_6 = 1, as shares of the image's width and of its height
    (so that "square" is 1.27:1 on Gen1): (s_k, s_k), (s, s) with s = sqrt(s_k s_{k+1}), and for each ratio r
    (s_k sqrt(r), s_k / sqrt(r)) and its transpose; at most the image.
    """
    low, high = SSD_SNN_SCALES
    levels = len(SSD_SNN_RATIOS)
    scales = [low + (high - low) * k / (levels - 1) for k in range(levels)] + [1.0]
    found = []
    for k, ratios in enumerate(SSD_SNN_RATIOS):
        between = math.sqrt(scales[k] * scales[k + 1])
        shares = [(scales[k], scales[k]), (between, between)]
        for ratio in ratios:
            long, short = scales[k] * math.sqrt(ratio), scales[k] / math.sqrt(ratio)
            shares += [(long, short), (short, long)]
        height, width = input_hw
        found.append(tuple((min(w, 1.0) * width, min(h, 1.0) * height) for w, h in shares))
    return AnchorSet(tuple(found))
