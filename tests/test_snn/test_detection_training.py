"""Detection as a task of training: mixed precision, and shares of a batch that act as the whole."""

from types import SimpleNamespace

import pytest
import torch

from snn.cost.counter import count_operations
from snn.cost.report import cost_of
from snn.cost.twins import ann_twin
from snn.detection.ann import put_relu_for_neurons
from snn.detection.detector import build_detector
from snn.detection.settings import BACKBONES, DetectorSettings
from snn.metrics.activity import neuron_layers
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


@torch.no_grad()
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_an_ann_has_the_layers_of_its_detector_and_sees_every_frame_by_itself(backbone):
    grid = backbone == "ltsnn"
    settings = DetectorSettings(
        backbone=backbone,
        width=0.0625,
        strides=(128,) if grid else (8, 16),
        neck="none" if grid else "fpn",
        head="grid" if grid else "ssd",
        executor="reference",
    )
    torch.manual_seed(4)
    spiking = build_detector(settings, in_channels=2, input_hw=(128, 192), classes=2).eval()
    torch.manual_seed(4)
    ann = put_relu_for_neurons(build_detector(settings, in_channels=2, input_hw=(128, 192), classes=2).eval())
    assert neuron_layers(ann) == {}
    names = {name for name in spiking.state_dict() if "neuron" not in name}
    assert set(ann.state_dict()) == names
    assert all(torch.equal(ann.state_dict()[name], spiking.state_dict()[name]) for name in names)

    frames = torch.rand(3, 1, 2, 128, 192)
    seen = []
    last = next(layer for layer in reversed(list(ann.modules())) if isinstance(layer, torch.nn.ReLU))
    hook = last.register_forward_hook(lambda *call: seen.append(call[2]))
    whole = ann(frames)
    assert whole.state == {}
    backwards = ann(frames.flip(0))
    for a, b in zip(
        (whole.class_logits, whole.box_code), (backwards.class_logits, backwards.box_code), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    ann(frames[:1])
    hook.remove()
    together, _, first = seen
    assert float(together.max()) > 0
    assert len(together.unique()) > 10
    torch.testing.assert_close(together[:1], first, rtol=1e-3, atol=1e-3)

    with count_operations(spiking) as of_spikes:
        spiking(frames)
    with count_operations(ann) as of_numbers:
        ann(frames)
    costs = [
        cost_of(network, counted, frame_shape=(2, 128, 192))
        for network, counted in ((spiking, of_spikes), (ann, of_numbers))
    ]
    assert costs[1].neurons == ()
    # What is only counted beside the spiking network is what this one computes, zeros included.
    assert ann_twin(costs[0], frames=3).macs == pytest.approx(costs[1].totals()["dense_macs"])
    assert costs[1].totals()["macs"] == costs[1].totals()["effective"] > 0
