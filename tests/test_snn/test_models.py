"""The networks: published sizes, names, training, refusals."""

from dataclasses import replace

import pytest
import torch

from snn.errors import ModelError
from snn.layers import fold_batch_norm
from snn.losses import mean_threshold, tet_loss
from snn.models.registry import MODELS, ModelSettings, build_model
from snn.models.vgg import parse_token
from snn.models.weights import load_weights
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS, NeuronSettings
from tests.suites import reference_kernels

LIF = NeuronSettings(learn_threshold=False)
LT = NeuronSettings()


def build(name, *, neuron=LT, in_channels=2, hw=(48, 48), classes=10, executor="reference", **settings):
    """A network; in plain torch, where nothing has to be compiled first, unless it is told."""
    torch.manual_seed(0)
    settings = ModelSettings(name, neuron=neuron, executor=executor, **settings)
    return build_model(settings, input_hw=hw, classes=classes, in_channels=in_channels)


def test_pool_sizes_with_odd_frames_and_101_classes():
    model = build("vggsnn_pool", neuron=LIF, in_channels=3, hw=(48, 64), classes=101, width=0.125)
    assert model.classifier.in_features == 64 * 3 * 4  # 6144 at width 1
    assert build("vgg5", hw=(35, 34)).hidden.in_features == 64 * 4 * 4  # 35 -> 17 -> 8 -> 4


@pytest.mark.parametrize("name", MODELS)
def test_logits_per_step_and_gradients_everywhere(name):
    model = build(name, width=0.1, hw=(35, 33), classes=7)
    x = torch.rand(3, 2, 2, 35, 33, generator=torch.Generator().manual_seed(1)) * 3
    logits = model(x)
    assert logits.shape == (3, 2, 7)
    tet_loss(logits, torch.tensor([1, 5]), weight=0.1, target=1.0).backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert torch.isfinite(parameter.grad).all(), parameter_name


def test_layers_have_readable_names():
    model = build("vgg7", width=0.1)
    names = " ".join(name for name, _ in model.named_children())
    assert names == (
        "block1 pool1 block2 block3 pool3 block4 block5 pool5 block6 block7 pool7 "
        "flatten hidden dropout classifier"
    )
    assert "block3.neuron.threshold" in dict(model.named_parameters())
    assert [type(module).__name__ for module in model.block2.children()] == [
        "Conv2d",
        "BatchNorm2d",
        "Neuron",
    ]


def test_first_block_keeps_a_constant_threshold_unless_told():
    learned = [m.settings.learn_threshold for m in build("vgg5").modules() if isinstance(m, Neuron)]
    assert learned == [False, True, True]
    free = build("vgg5", first_fixed=False)
    learned = [m.settings.learn_threshold for m in free.modules() if isinstance(m, Neuron)]
    assert learned == [True, True, True]


def test_pool_and_dropout_are_options():
    assert "MaxPool2d" in repr(build("vgg5", pool="max").pool1)
    dropout = build("vgg5", dropout=0.2, dropout_per="sample").dropout
    assert (dropout.p, dropout.per) == (0.2, "sample")


def test_samples_do_not_see_each_other_and_steps_are_ordered():
    model = build("vgg5", width=0.5, hw=(16, 16)).eval()
    x = 4 * torch.rand(4, 3, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        together = model(x)
        torch.testing.assert_close(model(x[:, 1:2]), together[:, 1:2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(x[:2]), together[:2], rtol=1e-4, atol=1e-5)  # no look ahead


def test_folded_network_classifies_alike():
    model = build("vgg5", width=0.5, hw=(16, 16))
    x = 4 * torch.rand(4, 8, 2, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        model(x)
        torch.testing.assert_close(fold_batch_norm(model)(x), model.eval()(x), rtol=1e-3, atol=1e-3)


def test_a_few_steps_learn_two_classes_and_move_the_thresholds():
    model = build("vgg5", width=0.25, hw=(16, 16), classes=2, dropout=0.0)
    draw = torch.Generator().manual_seed(4)
    labels = torch.arange(16) % 2
    x = (torch.rand(4, 16, 2, 16, 16, generator=draw) < 0.3).float()
    x[:, labels == 0, :, :, 8:] = 0  # class 0: left half only
    x[:, labels == 1, :, :, :8] = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        tet_loss(model(x), labels, weight=0.05, target=1.0).backward()
        optimizer.step()
    assert (model(x).mean(0).argmax(1) == labels).all()
    assert mean_threshold(model) != 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ModelSettings("vgg6"),
            r"name: found 'vgg6', expected one of vgg5, .*; did you mean 'vgg\d+'\?",
        ),
        (lambda: ModelSettings(pool="mean"), r"pool: found 'mean', expected one of avg, max"),
        (
            lambda: ModelSettings(executor="numbo"),
            r"executor: found 'numbo', expected one of auto, reference, numba, cuda; did you mean 'numba'\?",
        ),
        (lambda: ModelSettings(pack_spikes=1), r"pack_spikes: found 1, expected true or false"),
        (lambda: ModelSettings(width=0), r"width: found 0, expected a number above 0"),
        (lambda: ModelSettings(dropout=1.0), r"dropout: found 1\.0, expected a number from 0 to below 1"),
        (lambda: build("vgg9", hw=(48, 12)), r"input_hw: found 48x12, expected at least 16x16 for 4 pools"),
        (
            lambda: build("mobilenet", hw=(15, 48)),
            r"input_hw: found 15x48, expected at least 16x16 for 4 pools; use larger frames or a model",
        ),
        (lambda: build("mobilenet_published", hw=(1, 1)), r"found 1x1, expected at least 2x2 for 5 pools"),
        (lambda: ModelSettings("resnet"), r"name: found 'resnet', .*; did you mean 'resnet\d+'\?"),
        (
            lambda: ModelSettings(dropout_per="batch"),
            r"dropout_per: found 'batch', expected one of step, sample",
        ),
        (
            lambda: build("spikformer_4_256", hw=(8, 8), width=0.1)(torch.zeros(1, 1, 2, 8, 9)),
            r"frames: found shape \(1, 1, 2, 8, 9\), expected \[T, B, 2, 8, 8\]",
        ),
        (lambda: build("vgg5", classes=0), r"classes: found 0, expected at least 1"),
        (lambda: build("vgg5", in_channels=0), r"in_channels: found 0, expected at least 1"),
        (
            lambda: build("vgg5")(torch.zeros(1, 1, 2, 34, 34)),
            r"frames: found shape \(1, 1, 2, 34, 34\), expected \[T, B, 2, 48, 48\]",
        ),
        (lambda: build("vgg5")(torch.zeros(2, 2, 48, 48)), r"frames: found shape \(2, 2, 48, 48\), expected"),
        (lambda: parse_token("d3"), r"plan: found 'd3', expected cN, cNs, P or FN"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ModelError, match=message):
        make()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"name": "vgg7"},
            r"best\.pt: of another network: 36 of 66 weights missing \(block4\.conv\.weight, .* and 33 "
            r"more\), \d+ of 66 weights of another shape \(block1\.conv\.weight \[4, 2, 3, 3\] for "
            r"\[8, 2, 3, 3\], block1\.conv\.bias .*\); "
            r"set model\.name and the other settings of the model as in settings\.toml of its run",
        ),
        (
            {"neuron": LIF},
            r"2 of 30 weights unexpected \(block2\.neuron\.spike_scale, block3\.neuron\.spike_scale\); set",
        ),
        (
            {"classes": 11},
            r"2 of 30 weights of another shape \(classifier\.weight \[10, 32\] for \[11, 32\], "
            r"classifier\.bias \[10\] for \[11\]\); use frames, classes and model\.width that",
        ),
        ({"width": 0.3}, r"of another shape \(.* and \d+ more\); use frames, classes and model\.width"),
    ],
)
def test_weights_of_another_network_are_named(other, message):
    saved = build("vgg5", width=0.25, hw=(16, 16)).state_dict()
    network = build(**({"name": "vgg5", "width": 0.25, "hw": (16, 16)} | other))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(network, saved, where="best.pt")
    assert "\n" not in str(caught.value)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_in_few_bits_are_not_taken_for_float():
    network = build("vgg5", width=0.25, hw=(16, 16))
    saved = network.state_dict()
    few = saved | {"block2.conv.parametrizations.weight.original": saved["block2.conv.weight"]}
    del few["block2.conv.weight"]
    with pytest.raises(ModelError, match=r"its weights are few bits where this network has float; set model"):
        load_weights(network, few, where="best.pt")


def test_weights_of_the_same_network_load():
    saved, network = build("vgg5", width=0.25).state_dict(), build("vgg5", width=0.25)
    with torch.no_grad():
        network.classifier.weight.zero_()
    load_weights(network, saved, where="best.pt")
    assert torch.equal(network.classifier.weight, saved["classifier.weight"])


def test_settings_are_values():
    assert replace(ModelSettings(), width=0.5) == ModelSettings(width=0.5)
    assert hash(ModelSettings()) == hash(ModelSettings())


@pytest.fixture
def fused(monkeypatch):
    """Run blocks fused, by kernels made of the reference."""
    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: reference_kernels)
    choose = lambda wanted, **_: "reference" if wanted == "reference" else "numba"  # noqa: E731
    monkeypatch.setattr("snn.neurons.block.executor_for", choose)


def train_one_step(model):
    """Loss, gradients and weights after one step of SGD."""
    frames = (torch.rand(4, 3, 2, 20, 20, generator=torch.Generator().manual_seed(5)) < 0.3).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = tet_loss(model(frames), torch.tensor([0, 1, 2]), weight=0.05, target=1.0)
    loss.backward()
    optimizer.step()
    return [loss.detach(), *model.state_dict().values()]


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", [*NEURONS, "per channel"])
def test_every_neuron_trains_alike_fused_packed_and_plain(request, name, pool):
    neuron = NEURONS.get(name, replace(LT, per_channel=True, learn_decay=True))
    options = {"neuron": neuron, "hw": (20, 20), "width": 0.25, "dropout": 0.0, "pool": pool}
    expected = train_one_step(build("vgg5", executor="reference", **options).double())
    assert torch.isfinite(expected[0])
    request.getfixturevalue("fused")
    for pack_spikes in (False, True):
        found = train_one_step(build("vgg5", executor="auto", pack_spikes=pack_spikes, **options).double())
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_numba_trains_a_network_as_the_reference_does():
    losses = []
    for executor in ("reference", "numba"):
        model = build("vgg5", hw=(20, 20), width=0.25, dropout=0.0, executor=executor, first_fixed=False)
        losses.append(train_one_step(model.double())[0])
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("pool", "bits"), [("max", 1), ("avg", 4)])
def test_packed_spikes_take_a_few_bits(fused, monkeypatch, pool, bits):
    """All but the first convolution and the linear layers keep their input packed."""
    packed, pack = [], torch.ops.spikeline.pack_spikes
    monkeypatch.setattr(
        "snn.neurons.packing.pack_spikes", lambda *given: packed.append(pack(*given)) or packed[-1]
    )
    model = build("vgg5", hw=(16, 16), width=0.25, executor="auto", pack_spikes=True, pool=pool)
    model(torch.ones(2, 3, 2, 16, 16))
    assert [p.numel() * 8 // bits for p in packed] == [2 * 3 * 4 * 8 * 8, 2 * 3 * 8 * 4 * 4]


def test_what_may_be_no_spike_is_not_packed(fused, monkeypatch):
    monkeypatch.setattr("snn.neurons.packing.PackedConv2d", None)
    learned = NeuronSettings(spike_value="learned", threshold_gradient="none")
    frames = torch.ones(2, 3, 2, 16, 16)
    options = {"hw": (16, 16), "width": 0.25, "pack_spikes": True}
    build("vgg5", neuron=learned, first_fixed=False, executor="reference", **options)(frames)
    scaled = build("vgg5", executor="auto", **options)
    for module in (scaled.block1.neuron, scaled.pool2):
        module.register_forward_hook(lambda module, inputs, output: 0.3 * output)
    scaled(frames)


def test_hooks_of_a_network_see_spikes_and_pools(fused):
    model = build("vgg5", hw=(16, 16), width=0.25, dropout=0.0, executor="auto").double()
    frames = 3 * torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(6)).double()
    expected = model.eval()(frames)
    seen = {}
    for name in ("block1", "block1.neuron", "pool1", "block2", "block3.neuron"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda m, inputs, output, name=name: seen.update({name: output}))
    torch.testing.assert_close(model(frames), expected)
    assert seen["block1"].shape == seen["block1.neuron"].shape == (2, 3, 4, 16, 16)
    assert set(seen["block1"].unique().tolist()) == {0.0, 1.0}
    assert seen["pool1"].shape == (2, 3, 4, 8, 8)
    assert seen["block2"].shape == (2, 3, 8, 8, 8)
    assert list(seen) == ["block1.neuron", "block1", "pool1", "block2", "block3.neuron"]


def test_checkpoints_of_the_first_version_load():
    """Names and shapes of vgg5's state as they have always been."""
    model = build("vgg5", width=0.25)
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    expected = []
    for block in (1, 2, 3):
        neuron = ["threshold"] if block == 1 else ["threshold", "spike_scale"]
        parts = {"conv": ["weight", "bias"], "norm": norm, "neuron": neuron}
        expected += [f"block{block}.{part}.{name}" for part, names in parts.items() for name in names]
    expected += [f"{layer}.{name}" for layer in ("hidden", "classifier") for name in ("weight", "bias")]
    assert list(model.state_dict()) == expected


def test_compiled_networks_keep_one_node_a_block(fused):
    model = build("vgg5", hw=(16, 16), width=0.25, dropout=0.0, executor="auto", pack_spikes=True).double()
    frames = 3 * torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(6)).double()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(frames).sum(), model(frames).sum())
    compiled(frames).square().sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    model(frames).square().sum().backward()
    for a, b in zip(found, [p.grad for p in model.parameters() if p.requires_grad], strict=True):
        torch.testing.assert_close(a, b)
