"""The grid of cells as a head: two linear layers, as released with LT-SNN.

The loss and what the numbers mean are those of `snn.detection.grid`.
"""

import torch
from torch import Tensor, nn

from snn.detection.boxes import xywh_to_xyxy
from snn.detection.dense_head import Readout
from snn.detection.grid import GridSettings, decode_grid, detect
from snn.detection.predictions import Detections, Predictions
from snn.neurons.memory import Memory

# Features between the two linear layers of the release.
HIDDEN = 512


class GridHead(nn.Module):
    """All places of the last map to all numbers of the grid, through one hidden layer with ReLU.

    Attributes:
        grid: What the numbers mean.
        hidden, classifier: The linear layers.
        locations: The cells, each once for every box it predicts, x0, y0, x1, y1 in pixels, shape [A, 4].
    """

    locations: Tensor

    def __init__(
        self, grid: GridSettings, *, features: int, hidden: int, locations: Tensor, readout: Readout
    ) -> None:
        super().__init__()
        self.grid, self.readout = grid, readout
        self.register_buffer("locations", locations)
        self.hidden = nn.Linear(features, hidden)
        self.classifier = nn.Linear(hidden, grid.cells_hw[0] * grid.cells_hw[1] * grid.channels)

    def forward(self, maps: list[Tensor], memory: Memory | None = None) -> Predictions:
        """Return the predictions for maps [T, B, C, H, W], seeing the last; their state is empty."""
        x = maps[-1]
        read = x.sum(dim=0) if self.readout == "sum" else x.mean(dim=0)
        output = self.classifier(self.hidden(read.flatten(1)).relu())
        output = output.unflatten(1, (*self.grid.cells_hw, self.grid.channels))
        P = self.grid.boxes_per_cell
        code = output[..., : 4 * P].unflatten(-1, (4, P)).transpose(-1, -2).flatten(1, 3)
        logits = output[..., None, 5 * P :].expand(*output.shape[:3], P, -1).flatten(1, 3)
        return Predictions(logits, code, self.locations, {}, output)


@torch.no_grad()
def grid_detections(
    output: Tensor, grid: GridSettings, *, score_threshold: float, largest_iou: float, most: int
) -> list[Detections]:
    """Return the detections of each image, best first.

    In exact arithmetic a detection's score is its objectness, and classes leave each other alone; published,
    it is the class score as it comes, any number, and boxes of other classes are left out as well.

    Args:
        output: Of the head, shape [B, rows, columns, channels].
        grid: What it means.
        score_threshold: Objectness must be above.
        largest_iou: From 0 to 1.
        most: Detections in an image.
    """
    exact = grid.arithmetic == "exact"
    predictions = decode_grid(output.float(), grid)
    found = detect(
        predictions, grid, least_objectness=score_threshold, largest_iou=largest_iou, within_class=exact
    )
    return [_best(each.boxes, each.objectness if exact else each.scores, each.labels, most) for each in found]


def _best(boxes: Tensor, scores: Tensor, labels: Tensor, most: int) -> Detections:
    order = scores.argsort(descending=True, stable=True)[:most]
    return Detections(boxes[order], scores[order], labels[order])


def grid_locations(grid: GridSettings) -> Tensor:
    """Return the cells of a grid, each as often as it predicts boxes, shape [A, 4]."""
    rows, columns = grid.lines_px(torch.zeros(()))
    height, width = grid.cell_px()
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    size = torch.tensor([width, height]).expand(*x.shape, 2)
    cells = xywh_to_xyxy(torch.cat([torch.stack([x, y], -1), size], -1))
    return cells.flatten(0, 1).repeat_interleave(grid.boxes_per_cell, dim=0)
