"""The detector: published sizes, samples and steps, state, training, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from snn.cost.counter import count_operations
from snn.cost.report import cost_of
from snn.detection.anchors import AnchorSet, ssd_snn_anchors
from snn.detection.detector import Detector, build_detector, detector_settings, fit_detector_anchors
from snn.detection.settings import BACKBONES, DETECTORS, DetectorSettings, PostSettings
from snn.errors import DetectionError, ModelError
from snn.layers import fold_batch_norm, weight_layers
from snn.metrics.activity import record_rates
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS
from snn.quant.settings import WeightSettings

LIF = NEURONS["lif"]
HW = (48, 64)
SMALL = DetectorSettings(neuron=LIF, width=0.125, neck_channels=64, executor="reference")
GRID = replace(
    SMALL,
    head="grid",
    neck="none",
    strides=(16,),
    grid_cells_hw=(3, 4),
    post=PostSettings(score_threshold=0.4),
)
KINDS = {
    "vgg11": replace(SMALL, backbone="vgg11", width=0.05),
    "mobilenet": replace(SMALL, backbone="mobilenet"),
    "densenet121_16": replace(SMALL, backbone="densenet121_16", width=0.25, strides=(4, 8, 32)),
    "anchor_free": replace(SMALL, head="anchor_free", head_blocks=1, readout="sum"),
    "grid": GRID,
    "ssd_snn": replace(detector_settings("ssd_snn_vgg11"), width=0.05, executor="reference"),
    "ssd_snn_mobilenet": replace(
        detector_settings("ssd_snn_mobilenet64_depthwise"), width=0.05, executor="reference"
    ),
}
BOXES = [torch.tensor([[6.0, 8, 30, 28], [36, 20, 60, 44]]), torch.tensor([[20.0, 6, 40, 42]])]
LABELS = [torch.tensor([0, 2]), torch.tensor([1])]


def build(settings=SMALL, *, hw=HW, classes=3, **options):
    torch.manual_seed(0)
    return build_detector(settings, in_channels=4, input_hw=hw, classes=classes, **options)


def random_frames(*, steps=4, samples=3, hw=HW, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, samples, 4, *hw, generator=draw) < 0.2).float()


def settled(detector, frames):
    """The detector in evaluation, its normalisations used to such frames, so that neurons fire everywhere."""
    for layer in detector.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        detector.train()(frames)
    return detector.eval()


def outputs(detector, frames, **options):
    with torch.no_grad():
        found = detector(frames, **options)
    return torch.cat([found.class_logits, found.box_code], dim=-1)


@pytest.mark.parametrize(
    ("name", "hw", "total", "before_heads"),
    [
        # In print: 12.64 M; 24.26 M; 8.2 M; the specification counted 11.9 M before the heads of the first.
        ("ssd_snn_vgg11", (240, 304), 12_650_646, 11_907_734),
        ("ssd_snn_mobilenet64", (240, 304), 24_245_655, 23_362_967),
        ("ssd_snn_densenet121_24", (240, 304), 8_279_798, 7_508_982),
        # 25,890,568 with two of a neuron that is never called.
        ("ltsnn", (223, 287), 25_890_566, 20_875_974),
        ("ltsnn_fixed", (223, 287), 25_890_528, 20_875_936),
    ],
)
def test_published_sizes(name, hw, total, before_heads):
    settings = DETECTORS[name]
    anchors = ssd_snn_anchors(hw) if settings.head == "ssd" else None
    planes = 4 if settings.head == "ssd" else 2
    detector = Detector(settings, in_channels=planes, input_hw=hw, classes=2, anchors=anchors)
    counts = [sum(p.numel() for p in part.parameters()) for part in (detector, detector.head)]
    assert counts[0] == total
    assert counts[0] - counts[1] == before_heads


def test_the_ssd_snn_is_as_published():
    settings = replace(detector_settings("ssd_snn_vgg11"), width=1 / 64)
    detector = build(settings, hw=(240, 304), classes=2)
    assert detector.maps_hw == ((60, 76), (30, 38), (7, 9), (4, 5), (2, 3), (1, 2))
    assert detector.anchors.per_cell == (4, 6, 6, 6, 4, 4)
    assert len(detector.head.locations) == 25_610
    # Eight convolutions, three times two of the extra maps, and two of each of six levels.
    names = [name for name, *_ in weight_layers(detector)]
    assert len(names) == 8 + 6 + 12
    assert all(layer.bias is None for _, layer, _ in weight_layers(detector))
    neurons = [layer for layer in detector.modules() if isinstance(layer, Neuron)]
    assert len(neurons) == 14
    assert {(n.settings.learn_decay, n.settings.surrogate, n.settings.detach_reset) for n in neurons} == {
        (True, "atan", True)
    }
    kinds = [type(layer).__name__ for layer in detector.backbone.block2.children()]
    assert kinds == ["BatchNorm2d", "Conv2d", "Neuron"]


def test_maps_of_every_backbone():
    sizes = {4: (24, 32), 8: (12, 16), 16: (6, 8), 32: (3, 4)}
    for name in set(BACKBONES) - {"ltsnn"}:
        for strides in ((4, 8, 16, 32), (8, 16), (16,)):
            settings = replace(SMALL, backbone=name, strides=strides, neck="none", width=0.01)
            detector = build(replace(settings, head="anchor_free"), hw=(96, 128))
            assert detector.maps_hw == tuple(sizes[stride] for stride in strides), name


@pytest.mark.parametrize("executor", ["reference", "auto"])
@pytest.mark.parametrize("name", sorted(NEURONS))
def test_neighbours_in_the_batch_change_nothing(name, executor):
    settings = replace(SMALL, neuron=NEURONS[name], executor=executor)
    frames = random_frames()
    detector = settled(build(settings), frames)
    assert_independent(detector, frames)
    # Nor does it matter that there are others.
    whole = outputs(detector, frames)
    for sample in range(frames.shape[1]):
        assert torch.equal(outputs(detector, frames[:, sample : sample + 1])[0], whole[sample])


@pytest.mark.parametrize("name", sorted(NEURONS))
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_change_nothing_in_any_detector(kind, name, monkeypatch):
    frames = random_frames()
    detector = settled(build(replace(KINDS[kind], neuron=NEURONS[name])), frames)
    assert_independent(detector, frames)
    # Nor does it matter that there are others, where a sum does not depend on how many samples there are:
    # torch's own convolutions take one sample after the other, oneDNN's choose their order by the batch.
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    # A grid's linear layers are a product with a vector for one sample, with a matrix for several.
    rounding = 1e-4 if kind == "grid" else 0.0
    with torch.no_grad():
        whole = detector(frames)
        for sample in range(frames.shape[1]):
            alone = detector(frames[:, sample : sample + 1])
            for layer, v in whole.state.items():
                assert torch.equal(v[sample], alone.state[layer][0]), layer
            for of_all, of_one in zip(whole[:2], alone[:2], strict=True):
                torch.testing.assert_close(of_one[0], of_all[sample], rtol=rounding, atol=rounding)


def assert_independent(detector, frames):
    whole = outputs(detector, frames)
    # The sample is seen: its own events move its output.
    assert not torch.equal(whole[0], whole[1])
    others = torch.cat([1 - frames[:, :1], frames[:, 1:2], 0 * frames[:, :1]], dim=1)
    assert torch.equal(outputs(detector, others)[1], whole[1])


@pytest.mark.parametrize("kind", [*KINDS, "default"])
def test_the_order_of_steps_matters(kind):
    settings = KINDS.get(kind, replace(DetectorSettings(), executor="reference"))
    frames = random_frames(samples=1)
    # As many events as before, more and more of them.
    frames = frames * torch.tensor([0.0, 0, 1, 1]).reshape(4, 1, 1, 1, 1) + random_frames(samples=1, seed=2)
    detector = settled(build(settings), frames)
    ahead, back = outputs(detector, frames), outputs(detector, frames.flip(0))
    assert not torch.equal(ahead, back)


def boxes_of_every_level(detector):
    """For two images, a box for each level in turn: its first anchor of a cell, or four times that cell."""
    per_cell = detector.anchors.per_cell if detector.anchors else [1] * len(detector.maps_hw)
    boxes, before = [], 0
    for (rows, columns), count in zip(detector.maps_hw, per_cell, strict=True):
        middle = rows // 2 * columns + columns // 2
        x0, y0, x1, y1 = detector.head.locations[before + middle * count].tolist()
        more = 0 if detector.anchors else 1.5 * (x1 - x0)
        boxes.append([x0 - more, y0 - more, x1 + more, y1 + more])
        before += rows * columns * count
    found, labels = torch.tensor(boxes), torch.arange(len(boxes)) % 3
    return [found[::2], found[1::2]], [labels[::2], labels[1::2]]


@pytest.mark.parametrize("kind", [*KINDS, *sorted(NEURONS)])
def test_a_gradient_reaches_every_parameter(kind):
    settings = KINDS[kind] if kind in KINDS else replace(SMALL, neuron=NEURONS[kind])
    # So large that the last of six maps has more than one place.
    hw = (240, 304) if kind.startswith("ssd_snn") else HW
    detector = build(settings, hw=hw).train()
    truth = (BOXES, LABELS) if kind == "grid" else boxes_of_every_level(detector)
    loss = detector.loss(detector(random_frames(samples=2, hw=hw)), *truth)
    loss.total.backward()
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.count_nonzero() > 0, name
    assert float(loss.classes + loss.boxes) == pytest.approx(loss.total.item(), rel=1e-5)
    assert loss.positives >= 3


def shape_frames():
    """Two samples of outlines that move by a pixel a step; the boxes are where they end."""
    frames = torch.zeros(4, 2, 4, *HW)
    for sample, (boxes, labels) in enumerate(zip(BOXES, LABELS, strict=True)):
        for (x0, y0, x1, y1), label in zip(boxes.int().tolist(), labels.tolist(), strict=True):
            for step in range(4):
                left = x0 - 3 + step
                right = x1 - 3 + step
                frames[step, sample, label, y0:y1, left] = 1
                frames[step, sample, 3, y0:y1, right - 1] = 1
                frames[step, sample, label, y0, left:right] = 1
    return frames


@pytest.mark.parametrize("head", ["ssd", "anchor_free", "grid"])
def test_two_frames_are_learned_by_heart(head):
    dense = replace(SMALL, strides=(8,), neck="none", width=0.25)
    settings = GRID if head == "grid" else replace(dense, head=head)
    detector = build(replace(settings, executor="auto")).train()
    frames = shape_frames()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=5e-3, weight_decay=0.0)
    for step in range(80):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - step / 80)
        optimiser.zero_grad()
        loss = detector.loss(detector(frames), BOXES, LABELS)
        loss.total.backward()
        optimiser.step()
    # As in training: two samples are too few for what a normalisation keeps.
    with torch.no_grad():
        found = detector.detections(detector(frames), score_threshold=0.5)
    for image, boxes, labels in zip(found, BOXES, LABELS, strict=True):
        # The surest are the truth; what is less sure may be anything yet.
        best = image.xyxy[: len(boxes)]
        order = best[:, 0].argsort()
        assert image.labels[: len(boxes)][order].tolist() == labels.tolist()
        assert float((best[order] - boxes).abs().max()) < 2.5


@pytest.mark.parametrize("kind", ["ssd_snn", "densenet121_16", "anchor_free"])
def test_windows_in_a_row_go_on_from_each_other(kind):
    frames = random_frames(steps=6, samples=2)
    detector = settled(build(replace(KINDS[kind], readout="sum")), frames)
    with torch.no_grad():
        whole = detector(frames)
        first = detector(frames[:3])
        second = detector(frames[3:], first.state)
        afresh = detector(frames[3:])
    assert set(whole.state) == {n for n, layer in detector.named_modules() if isinstance(layer, Neuron)}
    for name, v in whole.state.items():
        assert torch.equal(v, second.state[name]), name
    assert not torch.equal(second.class_logits, afresh.class_logits)
    # One sample begins anew, the other goes on.
    starts = torch.tensor([True, False])
    with torch.no_grad():
        mixed = detector(frames[3:], detector.begin_anew(first.state, starts))
    assert torch.equal(mixed.class_logits[0], afresh.class_logits[0])
    assert torch.equal(mixed.class_logits[1], second.class_logits[1])


def test_a_state_takes_no_gradient_along():
    detector = build().train()
    frames = random_frames(samples=2)
    first = detector(frames)
    detector.loss(first, BOXES, LABELS).total.backward()
    detector.loss(detector(frames, first.state), BOXES, LABELS).total.backward()
    assert not any(v.requires_grad for v in first.state.values())


def test_a_learned_threshold_is_one_option_of_the_same_grid():
    learned, fixed = (
        build(replace(GRID, neuron=NEURONS[name], first_fixed=False), classes=2) for name in ("lt", "lif")
    )
    parameters = {name for name, _ in learned.named_parameters()} - {
        name for name, _ in fixed.named_parameters()
    }
    assert parameters
    assert all(name.rsplit(".", 1)[1] in ("threshold", "spike_scale") for name in parameters)


def test_boxes_that_are_ignored_are_neither_found_nor_missed():
    detector = build().eval()
    frames = random_frames(samples=2)
    predictions = detector(frames)
    none = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    empty = detector.loss(predictions, *none)
    assert empty.positives == 0
    assert float(empty.boxes) == 0
    marks = [torch.ones(2, dtype=torch.bool), torch.ones(1, dtype=torch.bool)]
    ignored = detector.loss(predictions, BOXES, LABELS, marks)
    assert ignored.positives == 0
    assert 0 < float(ignored.classes) < float(empty.classes)
    some = detector.loss(predictions, BOXES, LABELS, [torch.tensor([False, True]), torch.tensor([False])])
    assert 0 < some.positives < detector.loss(predictions, BOXES, LABELS).positives


def test_detections_are_sorted_within_the_image_and_apart():
    frames = random_frames()
    detector = settled(build(), frames)
    with torch.no_grad():
        predictions = detector(frames)
        # Spread out, so that some are sure.
        predictions = predictions._replace(class_logits=30 * (predictions.class_logits + 4.6))
        found = detector.detections(predictions, score_threshold=0.5, most=20)
    assert len(found) == 3
    for image in found:
        assert 0 < len(image.scores) <= 20
        assert (image.scores[:-1] >= image.scores[1:]).all()
        assert (image.scores > 0.5).all()
        assert (image.xyxy >= 0).all()
        assert (image.xyxy <= torch.tensor([64.0, 48, 64, 48])).all()
        assert image.labels.max() < 3
    alone = detector.detections(predictions, score_threshold=1.0)
    assert all(image.xyxy.shape == (0, 4) for image in alone)


def test_anchors_are_fitted_to_its_maps_and_saved_with_its_weights():
    draw = torch.Generator().manual_seed(5)
    corner = torch.rand(200, 2, generator=draw) * 24
    boxes = torch.cat([corner, corner + 14 + 8 * torch.rand(200, 2, generator=draw)], dim=1)
    labels = torch.arange(200) % 3
    anchors, coverage = fit_detector_anchors(SMALL, boxes, labels, input_hw=HW, classes=3)
    assert min(coverage.shares) >= 0.9
    detector = build(anchors=anchors)
    assert detector.anchors == anchors
    other = build(anchors=AnchorSet.from_lists([[[9.0, 9.0]] * n for n in anchors.per_cell]))
    other.load_state_dict(detector.state_dict())
    assert torch.equal(other.head.locations, detector.head.locations)
    with pytest.raises(DetectionError, match="take more anchors per level or one of smaller stride"):
        fit_detector_anchors(replace(SMALL, strides=(16,)), boxes, labels, input_hw=HW, classes=3)


@pytest.mark.parametrize("kind", ["vgg11", "mobilenet", "anchor_free", "grid", "ssd_snn"])
def test_what_it_costs_can_be_counted(kind):
    frames = random_frames(samples=2)
    detector = settled(build(KINDS[kind]), frames)
    plain = outputs(detector, frames)
    with count_operations(detector) as counter, record_rates(detector) as rates:
        counted = outputs(detector, frames)
    assert torch.equal(plain, counted)
    assert (counter.samples, counter.steps) == (2, 8)
    cost = cost_of(detector, counter, frame_shape=(4, *HW))
    assert set(rates.rates()) == {neuron.name for neuron in cost.neurons}
    assert {layer.role for layer in cost.layers if layer.name.startswith("head")} <= {"last", "inner"}
    kinds = {layer.name: layer.values for layer in cost.layers}
    # Every convolution between first and head is given spikes, unless it is normalised before.
    inner = [kinds[layer.name] for layer in cost.layers if layer.role == "inner"]
    assert all(values in ("binary", "none") for values in inner) == (kind != "ssd_snn")
    assert cost.totals()["effective"] > 0


def test_weights_in_few_bits_and_folded_normalisations():
    detector = build(replace(SMALL, weights=WeightSettings(bits=4)))
    assert any("parametrizations" in name for name, _ in detector.named_parameters())
    frames = random_frames(samples=2)
    detector.loss(detector(frames), BOXES, LABELS).total.backward()
    detector = settled(build(), frames)
    torch.testing.assert_close(
        outputs(fold_batch_norm(detector), frames), outputs(detector, frames), atol=1e-3, rtol=1e-3
    )


def test_what_does_not_fit_is_named():
    with pytest.raises(
        ModelError, match=r"backbone: found 'vgg12', expected one of .*; did you mean 'vgg11'"
    ):
        DetectorSettings(backbone="vgg12")
    with pytest.raises(
        ModelError, match=r"strides: found \[8, 4\], expected rising ones of \[4, 8, 16, 32\]"
    ):
        build(replace(SMALL, strides=(8, 4)))
    with pytest.raises(ModelError, match="head: found 'grid', which sees one map"):
        DetectorSettings(head="grid")
    with pytest.raises(ModelError, match="input_hw: too small, a map of 0x0 is left"):
        build(replace(SMALL, backbone="vgg11", strides=(32,)), hw=(16, 16))
    with pytest.raises(ModelError, match=r"detector: found 'smal', expected one of small, .*'small'"):
        detector_settings("smal")
    with pytest.raises(DetectionError, match="anchors: found 1 levels for 3 maps"):
        build(anchors=AnchorSet((((4.0, 4.0),),)))
    detector = build()
    frames = random_frames(samples=2)
    with pytest.raises(
        ModelError, match=r"frames: found shape \(4, 2, 4, 48, 63\), expected \[T, B, 4, 48, 64\]"
    ):
        detector(frames[..., 1:])
    predictions = detector(frames)
    with pytest.raises(ModelError, match=r"state: found 2 samples in .*, expected 1, as in the frames"):
        detector(frames[:, :1], predictions.state)
    with pytest.raises(ModelError, match=r"state: found 1 layers for .* in one alone"):
        detector(frames, {"backbone.stem.neuron": torch.zeros(2)})
    with pytest.raises(DetectionError, match="boxes: found 1 images, expected 2, as predicted"):
        detector.loss(predictions, BOXES[:1], LABELS)
    with pytest.raises(DetectionError, match="labels: found 3 to 3 in image 1, expected classes 0 to 2"):
        detector.loss(predictions, BOXES, [LABELS[0], torch.tensor([3])])
    with pytest.raises(DetectionError, match="boxes: found one without width or height in image 0"):
        detector.loss(predictions, [torch.zeros(2, 4), BOXES[1]], LABELS)
    with pytest.raises(DetectionError, match=r"shapes \(2, 4\) and \(1,\) in image 0, expected \[M, 4\]"):
        detector.loss(predictions, BOXES, LABELS[::-1])
    spoilt = predictions._replace(box_code=predictions.box_code * torch.nan)
    with pytest.raises(DetectionError, match="predictions: found nan in image 0 at location 0"):
        detector.detections(spoilt)
