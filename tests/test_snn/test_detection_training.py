"""Detection as a task of training: mixed precision, and shares of a batch that act as the whole."""

from types import SimpleNamespace

import pytest
import torch

from snn.detection.detector import build_detector
from snn.detection.settings import DetectorSettings
from snn.training.detection import DetectionTask
from snn.training.devices import make_fabric
from snn.training.settings import TrainSettings


def detector(head="anchor_free"):
    torch.manual_seed(2)
    neck, strides = ("none", (16,)) if head == "grid" else ("fpn", (8, 16))
    settings = DetectorSettings(head=head, width=0.0625, strides=strides, neck=neck, executor="reference")
    return build_detector(settings, in_channels=2, input_hw=(32, 48), classes=2)


def windows(B=3):
    torch.manual_seed(3)
    return SimpleNamespace(
        frames=(torch.rand(2, B, 2, 32, 48) < 0.2).float(),
        boxes=[torch.tensor([[4.0, 4, 20, 20], [22, 6, 40, 30]])[: 1 + b % 2] for b in range(B)],
        labels=[torch.tensor([1, 0])[: 1 + b % 2] for b in range(B)],
        ignore=[torch.zeros(1 + b % 2, dtype=torch.bool) for b in range(B)],
        index=torch.arange(B),
    )


@pytest.mark.parametrize("head", ["anchor_free", "ssd", "grid"])
def test_loss_and_box_codes_are_float32_where_the_network_runs_in_bf16(head, monkeypatch):
    network, batch = detector(head), windows()
    fabric = make_fabric(TrainSettings(device="cpu", precision="bf16"))
    model, _ = fabric.setup(network, torch.optim.SGD(network.parameters()))
    convolved, seen, loss_of = [], [], network.loss

    def keep(predictions, *truth):
        seen.append((predictions, loss_of(predictions, *truth)))
        return seen[-1][1]

    monkeypatch.setattr(network, "loss", keep)
    first = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    first.register_forward_hook(lambda *call: convolved.append(call[2].dtype))
    loss = DetectionTask(lambda found: (0.0, {})).loss(model, batch, target=1.0).loss
    fabric.backward(loss)
    assert convolved == [torch.bfloat16]
    ((predictions, parts),) = seen
    given = predictions.grid if head == "grid" else predictions.box_code
    assert given.dtype == parts.total.dtype == torch.float32
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}
    # No part of the loss is rounded: float32 outside autocast has the same bits.
    assert torch.equal(loss_of(predictions, batch.boxes, batch.labels, batch.ignore).total, loss)
