"""Gates: rules by hand, masks inside blocks, what is learned, what is recorded, what is refused."""

from dataclasses import replace

import pytest
import torch
from suites.training_stand_ins import MemorySource, Records
from torch import nn
from torch.nn import functional

from snn.errors import ModelError, SparsityError, TrainingError
from snn.layers import ConvBlock, Gated, Stepwise, fold_batch_norm, weight_layers
from snn.models.registry import ModelSettings, build_model
from snn.models.weights import load_weights
from snn.neurons.settings import NEURONS
from snn.quant.apply import list_weights
from snn.quant.settings import WeightSettings
from snn.sparsity.apply import (
    GateRecord,
    control_gates,
    from_ungated,
    gate_layers,
    gate_settings,
    in_warm_up,
    make_gate,
    record_gates,
)
from snn.sparsity.reference import binarise, grid_means, gumbel_gate, spread
from snn.sparsity.settings import SparsitySettings
from snn.sparsity.targets import channel_scores, largest_after_norm, mean_after_norm, prune_fraction, top_mass
from snn.training.classification import ClassificationTask
from snn.training.devices import make_fabric
from snn.training.fit import fit
from snn.training.settings import TrainSettings

KINDS = ("channel_predictor", "channel", "spatial", "channel_gating")
NEURON = replace(NEURONS["lif"], threshold=0.3)


def network(model="vgg5", *, input_hw=(16, 16), **sparsity):
    """Return a small network with firing neurons."""
    torch.manual_seed(0)
    sparsity = {"warm_up_batches": 0} | sparsity
    settings = ModelSettings(
        model,
        width=0.25,
        neuron=NEURON,
        executor="reference",
        dropout=0.0,
        sparsity=SparsitySettings(**sparsity),
    )
    return build_model(settings, input_hw=input_hw, classes=3)


def some_frames(samples=4, *, seed=1, hw=16):
    return torch.rand(3, samples, 2, hw, hw, generator=torch.Generator().manual_seed(seed))


def block_with_gate(in_channels=8, channels=12, *, settings, seed=0, **options):
    torch.manual_seed(seed)
    block = ConvBlock(in_channels, channels, neuron=NEURON, executor="reference", **options)
    block.gate = make_gate(block.conv, settings, layer="block")
    return block


def half(kind="channel_predictor", **options):
    """Return settings that drop a half."""
    target = "prune_fraction" if kind == "channel_predictor" else "top_mass"
    return SparsitySettings(kind=kind, target=target, ratio=0.5, **({"warm_up_batches": 0} | options))


def test_targets_by_hand():
    scores = torch.tensor([[0.1, 0.5, 0.0, 0.4]])
    # 0.5, 0.9, 1.0: the third of these reaches 0.95; two reach 0.9 and 0.85.
    assert top_mass(scores, 0.85).tolist() == [[0, 1, 0, 1]]
    assert top_mass(scores, 0.95).tolist() == [[1, 1, 0, 1]]
    assert top_mass(scores, 0.85, published=True).tolist() == [[0, 1, 0, 0]]
    # The largest alone carries more than 0.4: as released, nothing is left.
    assert top_mass(scores, 0.4).tolist() == [[0, 1, 0, 0]]
    assert top_mass(scores, 0.4, published=True).tolist() == [[0, 0, 0, 0]]
    assert top_mass(scores, 1.0).tolist() == [[1, 1, 0, 1]]
    # floor(0.6 * 4) = 2 are dropped; of 0 channels, the one without activation still.
    assert prune_fraction(scores, 0.6).tolist() == [[0, 1, 0, 1]]
    assert prune_fraction(scores, 0.1).tolist() == [[1, 1, 0, 1]]
    assert top_mass(torch.zeros(1, 3), 0.85).tolist() == prune_fraction(torch.zeros(1, 3), 0.5).tolist()


def test_scores_are_shares_of_the_largest_place():
    activation = torch.zeros(1, 3, 2, 2)
    activation[0, 0, 1, 1], activation[0, 1, 0, 0] = 3.0, -1.0
    assert channel_scores(activation).tolist() == [[0.75, 0.25, 0.0]]
    assert channel_scores(torch.zeros(2, 3, 2, 2)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("training", [True, False])
def test_activations_after_norm_change_no_statistics(training):
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(5).train(training)
    nn.init.normal_(norm.weight)  # of both signs
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    y, before = torch.randn(6, 5, 4, 3), norm.running_mean.clone()
    largest, mean = largest_after_norm(y, norm), mean_after_norm(y, norm)
    assert torch.equal(norm.running_mean, before)
    activation = torch.relu(norm(y))
    torch.testing.assert_close(largest, activation.amax(dim=(2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean, activation.mean(dim=(2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean_after_norm(y, nn.Identity()), torch.relu(y).mean(dim=(2, 3)))


def test_steps_are_exact_and_gradients_pass():
    x = torch.tensor([0.1, 0.5, 0.7], requires_grad=True)
    y = binarise(x)
    assert y.tolist() == [0, 0, 1]
    y.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    torch.manual_seed(0)
    gates = gumbel_gate(torch.full((4000,), 1.0), temperature=0.4)
    assert set(gates.tolist()) == {0.0, 1.0}
    assert float(gates.mean()) == pytest.approx(0.731, abs=0.03)  # sigmoid(1)


def test_a_patch_decides_for_its_own_places():
    gates = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    assert spread(gates, patch=2, output_hw=(3, 4))[0, 0].tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
    ]
    published = spread(gates, patch=2, output_hw=(3, 4), published=True)
    assert published[0, 0].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["vgg5", "mobilenet", "resnet18", "preact_resnet18", "spikformer_4_256"])
def test_every_gate_learns_in_every_kind_of_network(model, kind, published):
    model = network(model, kind=kind, published=published)
    with record_gates(model) as record:
        logits = model(some_frames(3))
    (logits.square().mean() + record.loss()).backward()
    gates = [name for name, _ in model.named_parameters() if ".gate." in name]
    assert gates
    flat = [name for name, p in model.named_parameters() if name in gates and not p.grad.any()]
    assert flat == []
    assert [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad] == []
    roles = {role for name, _, role in weight_layers(model) if ".gate." in name}
    assert roles <= {"gate"}


def test_all_blocks_but_the_first_have_a_gate_and_as_released_that_too():
    assert list(gate_layers(network(kind="channel_predictor"))) == ["block2", "block3"]
    released = network(kind="channel_predictor", published=True)
    assert list(gate_layers(released)) == ["block1", "block2", "block3"]
    # Every 4th channel of those before: 2 planes whole, 4 and 8 channels.
    assert [gate.linear.in_features for gate in gate_layers(released).values()] == [2, 1, 2]
    assert gate_settings(network(kind="none")) is None


def test_gates_leave_the_weights_of_the_network_as_they_are_drawn():
    plain = network().state_dict()
    gated = network(kind="channel").state_dict()
    assert all(torch.equal(gated[name], value) for name, value in plain.items())
    assert {name.split(".")[1] for name in gated.keys() - plain.keys()} == {"gate"}


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("executor", ["reference", "numba"])
def test_the_mask_multiplies_the_normalised_current(executor, hooked):
    block = block_with_gate(settings=half()).eval()
    block.neuron.executor = executor
    if hooked:
        block.neuron.register_forward_hook(lambda *_: None)
    nn.init.uniform_(block.norm.bias, 0.1, 0.5)
    x = (torch.rand(3, 2, 8, 4, 4) > 0.5).float()
    with torch.no_grad(), record_gates(block) as record:
        pooled = block(x, pool=Stepwise(nn.AvgPool2d(2)))
        logits = block.gate.logits(x)
        mask = (logits >= logits.sort(dim=2).values[..., 6:7]).float()  # 6 of 12
        current = block.norm(block.conv(x.flatten(0, 1))).unflatten(0, (3, 2)) * mask[..., None, None]
        expected = Stepwise(nn.AvgPool2d(2))(block.neuron(current))
    assert float(mask.mean()) == 0.5
    assert torch.equal(pooled, expected)
    assert record.kept_shares()["gate"] == pytest.approx(mask.mean(dim=(1, 2)).tolist())


def test_what_a_shortcut_carries_is_not_masked():
    settings = SparsitySettings(kind="channel_predictor", warm_up_batches=0)
    block = block_with_gate(settings=settings).eval()
    with torch.no_grad():
        block.gate.linear.weight.zero_()
        block.gate.linear.bias.fill_(-1)  # nothing is kept
        plus = torch.rand(2, 3, 12, 4, 4)
        assert torch.equal(block(torch.rand(2, 3, 8, 4, 4), plus=plus), block.neuron(plus))


def test_a_predictor_has_its_own_loss_alone():
    block = block_with_gate(settings=half())
    x = torch.rand(3, 4, 8, 6, 6, requires_grad=True)
    with record_gates(block) as record:
        spikes = block(x)
    record.loss().backward(retain_graph=True)
    assert x.grad is None
    assert block.conv.weight.grad is None
    before = block.gate.linear.weight.grad.clone()
    spikes.sum().backward()
    assert torch.equal(block.gate.linear.weight.grad, before)


def test_a_predictor_may_learn_from_the_task_too():
    block = block_with_gate(settings=half(learn_from_task=True))
    x = torch.rand(3, 4, 8, 6, 6, requires_grad=True)
    with record_gates(block):
        block(x).sum().backward()
    assert block.gate.linear.weight.grad.any()


def test_the_loss_by_hand():
    block = block_with_gate(settings=half())
    x = torch.rand(3, 4, 8, 6, 6)
    with torch.no_grad():
        block.gate.linear.weight.zero_()
        block.gate.linear.bias.fill_(2.0)
    with record_gates(block) as record:
        block(x)
    # Of 12 channels 6 are kept: -log sigmoid(2) each, -log sigmoid(-2) each of the others.
    assert record.loss().item() == pytest.approx(6 * 0.126928 + 6 * 2.126928, rel=1e-5)


@pytest.mark.parametrize("partial", ["first", "groups"])
def test_channel_gating_completes_the_convolution_where_gates_say_so(partial):
    block = block_with_gate(8, 12, settings=half("channel_gating", partial=partial), stride=2).eval()
    x, gate, conv = torch.rand(2, 3, 8, 6, 6), block.gate, block.conv
    nn.init.uniform_(gate.norm.running_mean, -0.2, 0.2)
    nn.init.constant_(gate.norm.running_var, 0.05)
    with torch.no_grad():
        gated = gate(x, conv, block.norm)
        seen = torch.zeros_like(conv.weight)
        if partial == "first":
            seen[:, :2] = 1
        else:
            for group in range(4):
                seen[3 * group : 3 * group + 3, 2 * group : 2 * group + 2] = 1
        partly = functional.conv2d(x.flatten(0, 1), conv.weight * seen, None, 2, 1)
        kept = gated.kept.flatten(0, 1)
        whole = conv(x.flatten(0, 1)) - conv.bias[:, None, None]
        assert torch.equal(kept, (gate.norm(partly) > gate.threshold[:, None, None]).float())
        expected = kept * whole + (1 - kept) * partly + conv.bias[:, None, None]
    assert 0 < float(kept.mean()) < 1
    assert gated.mask is None
    torch.testing.assert_close(gated.current.flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


def test_everything_kept_is_the_network_without_gates():
    plain = network().eval()
    for kind in KINDS:
        warm = network(kind=kind, warm_up_batches=1).eval()
        torch.testing.assert_close(warm(some_frames()), plain(some_frames()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_folding_keeps_the_decisions(kind):
    model = network(kind=kind)
    model(some_frames())
    model.eval()
    folded = fold_batch_norm(model)
    torch.testing.assert_close(folded(some_frames()), model(some_frames()), rtol=1e-4, atol=1e-5)
    is_folded = isinstance(folded.block2.norm, nn.Identity)
    assert is_folded == (kind != "channel_gating")


def two_kinds(samples, *, channels=16, seed=5):
    """Return spikes of two kinds of samples: the first half of the channels is active, or the second."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.full((samples, channels), 0.05)
    rates[::2, : channels // 2] = 0.7
    rates[1::2, channels // 2 :] = 0.7
    return (
        torch.rand(2, samples, channels, 4, 4, generator=generator) < rates[None, :, :, None, None]
    ).float()


def train_gate(block, steps=150):
    """Train the gate of a block by its own loss."""
    optimizer = torch.optim.Adam(block.gate.parameters(), lr=0.03)
    for step in range(steps):
        with record_gates(block) as record:
            block(two_kinds(16, seed=step))
        optimizer.zero_grad()
        record.loss().backward()
        optimizer.step()
    block.eval()
    with torch.no_grad(), record_gates(block) as record:
        block(two_kinds(64, seed=10_000))
    return record


def test_trained_masks_follow_the_input_and_keep_the_share_asked_for():
    record = train_gate(block_with_gate(16, 16, settings=half()))
    assert record.kept_shares()["gate"] == [0.5, 0.5]
    assert record.changes_between_samples()["gate"] > 0.1


def test_top_mass_keeps_what_carries_the_mass():
    settings = SparsitySettings(kind="channel_predictor", ratio=0.7, warm_up_batches=0)
    block = block_with_gate(16, 16, settings=settings)
    record = train_gate(block)
    x = two_kinds(64, seed=10_000)
    with torch.no_grad():
        asked = block.gate.target(block.conv(x.flatten(0, 1)).unflatten(0, (2, 64)), block.norm).mean()
    assert record.kept_shares()["gate"] == pytest.approx([float(asked)] * 2, abs=0.08)
    assert record.changes_between_samples()["gate"] > 0.05


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_budget_brings_the_kept_share_where_it_is_asked(kind):
    settings = SparsitySettings(kind=kind, ratio=0.7, warm_up_batches=0)
    record = train_gate(block_with_gate(16, 16, settings=settings))
    assert record.kept_shares()["gate"] == pytest.approx([0.3, 0.3], abs=0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_warm_up_everything_is_kept(kind):
    model = network(kind=kind, warm_up_batches=2)
    predictor = kind == "channel_predictor"
    for _ in range(2):
        assert in_warm_up(model)
        with record_gates(model) as record:
            model(some_frames())
        assert (record.loss().item() > 0) == predictor
    assert not in_warm_up(model)
    again = network(kind=kind, warm_up_batches=2)
    again.load_state_dict(model.state_dict())
    assert not in_warm_up(again)
    early = network(kind=kind, warm_up_batches=2).eval()
    with record_gates(early) as record:
        early(some_frames())
    assert set(record.kept_shares()["block3"]) == {1.0}


def test_a_predictor_sees_parts_of_maps():
    """Two kinds of samples that differ only in where the same spikes are: means over maps are the same."""
    x = torch.zeros(1, 2, 2, 4, 4)
    x[0, 0, :, :2] = x[0, 1, :, 2:] = 1
    seen = [grid_means(x[0], grid) for grid in (1, 2)]
    assert torch.equal(seen[0][0], seen[0][1])
    assert seen[1].tolist() == [[1, 1, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 1, 1]]
    gate = block_with_gate(8, 12, settings=half(grid=3)).gate
    assert gate.linear.in_features == gate.scale.num_features == 8 * 9


@pytest.mark.parametrize(("target", "taught"), [("prune_fraction", 0.5), ("top_mass", 1.0)])
def test_what_is_taught_in_the_warm_up(target, taught):
    """Whatever its number of channels, a predictor of a fixed number learns which; the other, to keep all."""
    settings = SparsitySettings("channel_predictor", target, ratio=0.5, warm_up_batches=1)
    block = block_with_gate(settings=settings)
    nn.init.zeros_(block.gate.linear.weight)
    nn.init.constant_(block.gate.linear.bias, 2.0)
    with record_gates(block) as record:
        block(torch.rand(3, 4, 8, 6, 6))
    expected = 12 * (taught * 0.126928 + (1 - taught) * 2.126928)  # -log sigmoid(2), -log sigmoid(-2)
    assert record.loss().item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_of_a_map_counts_and_as_asked_its_largest_value():
    block = block_with_gate(8, 2, settings=half())
    y = torch.full((1, 1, 2, 4, 4), 0.5)
    y[0, 0, 1] = 0.0
    y[0, 0, 1, 2, 2] = 4.0
    assert block.gate.target(y, nn.Identity()).tolist() == [[[1, 0]]]
    for options in ({"score": "largest"}, {"published": True}):
        gate = block_with_gate(8, 2, settings=half(**options)).gate
        assert gate.target(y, nn.Identity()).tolist() == [[[0, 1]]]


def test_random_channels_have_no_warm_up():
    model = network(kind="channel_predictor", target="prune_fraction", random="fixed", warm_up_batches=5)
    assert not in_warm_up(model)


def test_random_channels_keep_their_share_fixed_or_drawn():
    x = torch.rand(3, 5, 8, 4, 4)
    for random in ("fixed", "drawn"):
        block = block_with_gate(8, 10, settings=half(random=random)).eval()
        with record_gates(block) as record:
            first = block.gate(x, block.conv, block.norm).kept
        assert torch.equal(first, block.gate(x, block.conv, block.norm).kept)
        assert set(first.sum(dim=2).flatten().tolist()) == {5}
        assert (record.changes_between_samples()["gate"] > 0.2) == (random == "drawn")
        assert record.loss() is None


def test_random_patches_keep_their_share_fixed_or_drawn():
    x = torch.rand(3, 5, 8, 7, 6)
    for random in ("fixed", "drawn"):
        block = block_with_gate(8, 10, settings=SparsitySettings(kind="spatial", random=random)).eval()
        with record_gates(block) as record:
            gated = block.gate(x, block.conv, block.norm)
        assert gated.kept.shape == (3, 5, 1, 4, 3)
        assert set(gated.kept.sum(dim=(2, 3, 4)).flatten().tolist()) == {6}
        assert torch.equal(gated.mask[..., 0::2, 0::2], gated.kept)
        assert gated.mask.shape == (3, 5, 1, 7, 6)
        assert (record.changes_between_samples()["gate"] > 0.2) == (random == "drawn")
        block.gate(torch.rand(1, 2, 8, 3, 3), block.conv, block.norm)  # maps of another size


def test_controls_deal_the_same_number_to_others():
    block = block_with_gate(8, 12, settings=half()).eval()
    x = torch.rand(2, 6, 8, 4, 4)
    own = block.gate(x, block.conv, block.norm).kept
    with control_gates(block, "shuffled"):
        shuffled = block.gate(x, block.conv, block.norm).kept
    with control_gates(block, "swapped"):
        swapped = block.gate(x, block.conv, block.norm).kept
    assert torch.equal(shuffled.sum(dim=2), own.sum(dim=2))
    assert not torch.equal(shuffled, own)
    assert not torch.equal(swapped, own)
    assert sorted(map(str, swapped[0].tolist())) == sorted(map(str, own[0].tolist()))
    assert torch.equal(block.gate(x, block.conv, block.norm).kept, own)


def test_what_is_recorded_by_hand():
    # Two steps, four samples, two channels; the second channel is kept by all, the first by one and by two.
    kept = torch.ones(2, 4, 2)
    kept[0, 1:, 0] = 0
    kept[1, 2:, 0] = 0
    record = GateRecord()
    for part in kept.split(2, dim=1):
        record.add("a", Gated(part, None, part, None), training=False)
    assert record.kept_shares() == {"a": [0.625, 0.75]}
    # Pairs that differ: 3 of 6 and 4 of 6 in the first channel, none in the second.
    assert record.changes_between_samples()["a"] == pytest.approx((3 / 6 + 4 / 6) / 4)
    assert record.changes_between_steps()["a"] == pytest.approx(1 / 8)


SETTINGS = TrainSettings(epochs=2, batch_size=8, learning_rate=0.02, device="cpu", precision="fp32")


def run_fit(tmp_path, *, stop_after=None, resume=False, **sparsity):
    torch.manual_seed(1)
    options = ModelSettings(
        "vggsnn", width=1 / 16, neuron=NEURON, executor="reference", sparsity=SparsitySettings(**sparsity)
    )
    model = build_model(options, input_hw=(4, 4), classes=3)
    records = Records()
    fabric = make_fabric(SETTINGS)
    result = fit(
        fabric,
        model,
        MemorySource(),
        lambda: MemorySource(samples=9, seed=1, shuffle=False),
        settings=SETTINGS,
        task=ClassificationTask(SETTINGS, classes=3),
        folder=tmp_path,
        observer=records,
        resume=resume,
        should_stop=lambda: len(records.losses) == stop_after,
    )
    return result, records


def test_training_tells_what_gates_do_and_takes_no_epoch_of_the_warm_up_for_the_best(tmp_path):
    # Three steps an epoch, so the warm-up ends with the second epoch's first.
    result, records = run_fit(tmp_path, kind="channel_predictor", warm_up_batches=4)
    first, second = records.records
    assert (first.best, second.best, result.best_epoch) == (False, True, 2)
    assert {share for shares in first.kept_shares.values() for share in shares} == {1.0}
    assert min(share for shares in second.kept_shares.values() for share in shares) < 1
    assert list(second.kept_shares) == [f"block{n}" for n in range(2, 9)] == list(second.mask_changes)
    assert second.gate_loss > 0


@pytest.mark.parametrize("kind", ["channel_predictor", "channel"])
def test_training_that_was_stopped_goes_on_alike(kind, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    _, expected = run_fit(whole, kind=kind, warm_up_batches=2)
    run_fit(stopped, kind=kind, warm_up_batches=2, stop_after=4)
    _, found = run_fit(stopped, kind=kind, warm_up_batches=2, resume=True)
    last, same = expected.records[-1], found.records[-1]
    for name in ("train", "gate_loss", "validation", "kept_shares", "mask_changes"):
        assert getattr(same, name) == getattr(last, name), name


def test_a_warm_up_longer_than_training_is_refused(tmp_path):
    message = r"sparsity\.warm_up_batches: found 6, expected fewer than the 6 steps of this training"
    with pytest.raises(TrainingError, match=message):
        run_fit(tmp_path, kind="channel", warm_up_batches=6)


def test_without_weight_gates_stay_as_they_were_drawn():
    model = network(kind="channel_predictor", published=True, loss_weight=0.0)
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".gate." in name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "chanel"}, r"sparsity\.kind: found 'chanel', .*; did you mean 'channel'\?"),
        (
            {"kind": "channel", "ratio": 1.0},
            r"sparsity\.ratio: found 1\.0, expected a number between 0 and 1",
        ),
        ({"kind": "channel", "ratio": 0.0}, r"sparsity\.ratio: found 0\.0"),
        ({"ratio": 0.5}, r"sparsity\.ratio: found 0\.5 with kind 'none', expected a kind of gate"),
        ({"published": True}, r"sparsity\.published: found True with kind 'none'"),
        (
            {"kind": "spatial", "target": "prune_fraction"},
            r"sparsity\.target: found 'prune_fraction' with kind",
        ),
        ({"kind": "spatial", "learn_from_task": True}, r"sparsity\.learn_from_task: found true with kind"),
        ({"kind": "channel_predictor", "random": "fixed"}, r"sparsity\.random: found 'fixed' with kind"),
        ({"kind": "channel_gating", "random": "fixed"}, r"sparsity\.random: found 'fixed' with kind"),
        (
            {"kind": "spatial", "random": "drawn", "published": True},
            r"sparsity\.random: found 'drawn' with kind 'spatial', .* published true",
        ),
        ({"kind": "channel", "loss_weight": float("nan")}, r"sparsity\.loss_weight: found nan"),
        (
            {"kind": "channel", "warm_up_batches": -1},
            r"sparsity\.warm_up_batches: found -1, expected a whole",
        ),
        ({"kind": "spatial", "patch": 0}, r"sparsity\.patch: found 0, expected a whole number from 1"),
        ({"kind": "channel_gating", "parts": 1}, r"sparsity\.parts: found 1, expected a whole number from 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(SparsityError, match=message):
        SparsitySettings(**options)


def test_convolutions_that_have_no_parts_are_refused():
    with pytest.raises(SparsityError, match=r"block2\.spatial: found a convolution in 8 groups"):
        network("mobilenet_depthwise", kind="channel_gating")
    with pytest.raises(SparsityError, match=r"block2: found 4 channels to 8, which have no 5 parts"):
        network(kind="channel_gating", parts=5)
    with pytest.raises(SparsityError, match=r"block2: found 4 channels to 8, which have no 3 parts"):
        network(kind="channel_gating", parts=3, partial="groups")


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_few_bits_and_packed_spikes_go_with_gates(kind):
    torch.manual_seed(0)
    settings = ModelSettings(
        "vgg5",
        width=0.25,
        neuron=NEURON,
        dropout=0.0,
        pack_spikes=True,
        weights=WeightSettings(bits=2, gate_bits=8, rule="mean_abs"),
        sparsity=SparsitySettings(kind=kind, warm_up_batches=0),
    )
    model = build_model(settings, input_hw=(16, 16), classes=3)
    with torch.autocast("cpu", torch.bfloat16), record_gates(model) as record:
        logits = model(some_frames())
        loss = logits.float().square().mean() + record.loss()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    inner = [layer for layer in list_weights(model) if layer.role == "gate"]
    assert {layer.bits for layer in inner} <= {8}


def test_packed_spikes_change_no_gradient():
    found = []
    for pack in (False, True):
        torch.manual_seed(0)
        settings = ModelSettings(
            "vgg5",
            width=0.25,
            neuron=NEURON,
            executor="reference",
            dropout=0.0,
            pack_spikes=pack,
            sparsity=half(),
        )
        model = build_model(settings, input_hw=(16, 16), classes=3)
        model(some_frames()).square().mean().backward()
        found.append(model.block2.conv.weight.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


def test_a_network_with_gates_begins_with_one_without():
    plain, gated = network(), network(kind="channel")
    with torch.no_grad():
        plain.classifier.bias.fill_(7.0)
    drawn = gated.block2.gate.first.weight.clone()
    load_weights(gated, from_ungated(plain.state_dict(), gated), where="plain")
    assert gated.classifier.bias.tolist() == [7.0] * 3
    assert torch.equal(gated.block2.gate.first.weight, drawn)
    other = network(kind="spatial").state_dict()
    with pytest.raises(ModelError, match="other: of another network"):
        load_weights(gated, from_ungated(other, gated), where="other")
