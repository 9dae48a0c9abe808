"""A head that predicts at every location of every map: classes and a box, from anchors or without.

Source: SSD (Liu et al., ECCV 2016); without anchors, one box a cell in YOLOX's code (Ge et al., 2021).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from snn.detection.blocks import BlockOptions, normalise_with_border
from snn.detection.losses import prior_bias
from snn.detection.predictions import Predictions
from snn.neurons.memory import Memory

Readout = Literal["sum", "rate"]


class Branch(nn.Module):
    """One of the two numbers of a level: classes or boxes.

    Attributes:
        blocks: Spiking 3x3 conv blocks, one after the other; none in SSD.
        norm: BatchNorm2d of what is read out.
        conv: 3x3 convolution to the numbers.
    """

    def __init__(
        self, options: BlockOptions, *, channels: int, numbers: int, blocks: int, bias: float | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([options.block(channels, channels) for _ in range(blocks)])
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, numbers, 3, bias=bias is not None)
        if bias is None:
            nn.init.kaiming_normal_(self.conv.weight)
        else:
            # Small, so that every location begins at its prior. Source: RetinaNet, section 4.1.
            nn.init.normal_(self.conv.weight, std=0.01)
            nn.init.constant_(self.conv.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *, readout: Readout, memory: Memory | None) -> Tensor:
        """Return the numbers, shape [B, numbers, H, W], for spikes x [T, B, C, H, W]."""
        for block in self.blocks:
            x = block(x, memory=memory)
        read = x.sum(dim=0) if readout == "sum" else x.mean(dim=0)
        return self.conv(normalise_with_border(read[None], self.norm, 1)[0])


class DenseHead(nn.Module):
    """Class scores and box codes at every anchor, or at every cell, of every level.

    Spikes are read out as their sum, or their mean, over the steps.

    Attributes:
        levels: For each level the branches `classes` and `boxes`.
        locations: Anchors or cells, x0, y0, x1, y1 in pixels, shape [A, 4]; saved with the weights.
    """

    locations: Tensor

    def __init__(
        self,
        options: BlockOptions,
        *,
        channels: Sequence[int],
        per_cell: Sequence[int],
        locations: Tensor,
        classes: int,
        blocks: int,
        readout: Readout,
        prior: float | None,
    ) -> None:
        """Build the branches.

        Args:
            options: Of the blocks.
            channels: Of each level's map.
            per_cell: Predictions in a cell of each level.
            locations: Of all predictions, shape [A, 4].
            classes: Number of classes K.
            blocks: Spiking blocks of each branch.
            readout: `sum` or `rate`.
            prior: Probability at which every class begins; None: convolutions without a bias, as the
                SSD-SNN has them.
        """
        super().__init__()
        self.classes, self.readout = classes, readout
        self.register_buffer("locations", locations)
        self.levels = nn.ModuleList()
        bias = None if prior is None else prior_bias(prior)
        for size, count in zip(channels, per_cell, strict=True):
            level = nn.ModuleDict(
                {
                    "classes": Branch(
                        options, channels=size, numbers=count * classes, blocks=blocks, bias=bias
                    ),
                    "boxes": Branch(
                        options,
                        channels=size,
                        numbers=count * 4,
                        blocks=blocks,
                        bias=None if bias is None else 0.0,
                    ),
                }
            )
            self.levels.append(level)

    def forward(self, maps: Sequence[Tensor], memory: Memory | None = None) -> Predictions:
        """Return the predictions for the maps of all levels, [T, B, C, H, W] each; their state is empty."""
        found: dict[str, list[Tensor]] = {"classes": [], "boxes": []}
        for level, x in zip(self.levels, maps, strict=True):
            for name, numbers in (("classes", self.classes), ("boxes", 4)):
                branch = level[name]  # type: ignore[index]
                given = branch(x, readout=self.readout, memory=memory)
                found[name].append(_by_location(given, numbers))
        class_logits, box_code = (torch.cat(parts, dim=1) for parts in found.values())
        return Predictions(class_logits, box_code, self.locations, {})


def _by_location(x: Tensor, numbers: int) -> Tensor:
    """Return [B, A * numbers, H, W] as [B, H * W * A, numbers], in the order anchors are placed."""
    return x.unflatten(1, (-1, numbers)).permute(0, 3, 4, 1, 2).flatten(1, 3)
