"""Training: schedule, checkpoints, exact resume, broken losses, several processes."""

import copy
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from suites.training_stand_ins import MemorySource, Records, TinyNetwork
from torch import nn

from snn.errors import TrainingError
from snn.metrics.classification import ClassificationMeter
from snn.training.average import WeightAverage
from snn.training.checkpoint import load_checkpoint, random_state, save_checkpoint, set_random_state
from snn.training.classification import ClassificationTask, evaluate
from snn.training.devices import make_fabric, started_world
from snn.training.fit import BEST, LAST, fit
from snn.training.launch import start_processes
from snn.training.loop import Training, _train_step
from snn.training.nonfinite import first_nonfinite_layer
from snn.training.optimizer import build_optimizer, learning_rate_at
from snn.training.settings import TrainSettings

SETTINGS = TrainSettings(epochs=3, batch_size=8, learning_rate=0.02, device="cpu", checkpoint_every_s=0.0)


@pytest.fixture(scope="module")
def fabric():
    return make_fabric(SETTINGS)


def run_fit(fabric, folder, *, network=None, settings=SETTINGS, stop_after=None, resume=False, **options):
    """Train a tiny network; returns it, the result and what was told."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(11)
    network = network or TinyNetwork()
    records = Records()
    result = fit(
        fabric,
        network,
        options.pop("source", None) or MemorySource(),
        lambda: MemorySource(samples=9, seed=1, shuffle=False),
        settings=settings,
        task=ClassificationTask(settings, classes=3),
        folder=folder,
        observer=records,
        resume=resume,
        should_stop=lambda: stop_after is not None and len(records.losses) >= stop_after,
    )
    return network, result, records


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_learning_rate_by_hand():
    settings = TrainSettings(epochs=4, learning_rate=1.0, warmup_epochs=1.0, final_learning_rate=0.2)
    rates = [learning_rate_at(step, steps_per_epoch=2, settings=settings) for step in range(8)]
    # Two steps of warm-up; then a cosine over six steps from 1 to 0.2, half way (0.6) after three.
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[5] == pytest.approx(0.6)
    assert rates[7] == pytest.approx(0.2 + 0.4 * (1 + math.cos(5 * math.pi / 6)))
    assert learning_rate_at(8, steps_per_epoch=2, settings=settings) == pytest.approx(0.2)
    constant = TrainSettings(schedule="constant", learning_rate=0.3)
    assert learning_rate_at(10**6, steps_per_epoch=2, settings=constant) == 0.3


def test_steps_of_the_learning_rate_as_published():
    # LT-SNN's CIFAR-10 run: 1e-3 times 0.8 to the power of epoch // 30.
    settings = TrainSettings(epochs=200, learning_rate=1e-3, schedule="step", step_factor=0.8)
    for epoch, falls in ((0, 0), (29, 0), (30, 1), (59, 1), (60, 2), (199, 6)):
        for step in (4 * epoch, 4 * epoch + 3):
            rate = learning_rate_at(step, steps_per_epoch=4, settings=settings)
            assert rate == pytest.approx(1e-3 * 0.8**falls)


def test_sgd_has_its_momentum_and_decays_weights_alone():
    settings = TrainSettings(optimizer="sgd", learning_rate=0.05, momentum=0.8, weight_decay=4e-5)
    optimizer = build_optimizer(TinyNetwork(), settings, fused=False)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [(group["momentum"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.8, 4e-5),
        (0.8, 0.0),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, "momentum must be from 0 to below 1, got 1.0"),
        ({"step_factor": 1.0}, "step_factor must be above 0 and below 1, got 1.0"),
        ({"step_epochs": 0}, "step_epochs must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(TrainingError, match=message):
        TrainSettings(**settings)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_only_weights_decay(name, kind):
    network = TinyNetwork()
    settings = TrainSettings(optimizer=name, weight_decay=0.1)
    optimizer = build_optimizer(network, settings, fused=False)
    assert type(optimizer) is kind
    decayed, rest = optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(network.first.weight), id(network.last.weight)]
    assert any(p is network.neuron.threshold for p in rest["params"])


def test_training_learns_and_tells(fabric, tmp_path):
    settings = TrainSettings(epochs=12, batch_size=8, learning_rate=0.02, device="cpu")
    _, result, records = run_fit(fabric, tmp_path, settings=settings)
    assert result.completed
    assert [record.epoch for record in records.records] == list(range(1, 13))
    assert [record.step for record in records.records] == list(range(3, 39, 3))
    assert records.records[-1].train["loss"] < 0.6 * records.records[0].train["loss"]
    assert result.best_score == max(record.validation["accuracy"] for record in records.records)
    last = records.records[-1]
    assert set(last.thresholds) == set(last.firing_rates) == {"neuron"}
    assert 0 < last.firing_rates["neuron"] < 1
    assert last.thresholds["neuron"] != pytest.approx(0.3)


def test_best_is_the_most_accurate_then_the_lowest_loss(fabric, tmp_path):
    settings = TrainSettings(epochs=10, batch_size=8, learning_rate=0.02, device="cpu")
    _, result, records = run_fit(fabric, tmp_path, settings=settings)
    order = sorted(records.records, key=lambda r: (-r.validation["accuracy"], r.validation["loss"], r.epoch))
    assert result.best_epoch == order[0].epoch
    assert [r.epoch for r in records.records if r.best][-1] == order[0].epoch
    saved = load_checkpoint(tmp_path / BEST)
    assert saved["epoch"] == order[0].epoch
    network = TinyNetwork()
    network.load_state_dict(saved["model"])
    again = evaluate(fabric, network, MemorySource(samples=9, seed=1, shuffle=False), 3)
    assert again.accuracy == order[0].validation["accuracy"]
    assert again.loss == pytest.approx(order[0].validation["loss"], abs=1e-6)


@pytest.mark.parametrize("target", [1.0, "mean_threshold"])
@pytest.mark.parametrize("stop_after", [1, 3, 5, 8])
def test_interrupted_and_resumed_is_the_same_to_the_bit(fabric, tmp_path, stop_after, target):
    settings = TrainSettings(
        epochs=3, batch_size=8, learning_rate=0.02, device="cpu", loss_weight=0.3, loss_target=target
    )
    whole, _, told = run_fit(fabric, tmp_path / "whole", settings=settings)
    _, result, before = run_fit(fabric, tmp_path / "parts", settings=settings, stop_after=stop_after)
    assert not result.completed
    assert len(before.losses) == stop_after
    # Whatever happens in between.
    torch.manual_seed(99)
    random.seed(99)
    resumed, result, after = run_fit(fabric, tmp_path / "parts", settings=settings, resume=True)
    assert result.completed
    assert_same_bits(weights(resumed), weights(whole))
    assert len(before.losses) + len(after.losses) == len(told.losses)
    assert before.targets + after.targets == told.targets
    final, expected = after.records[-1], told.records[-1]
    assert (final.train, final.validation) == (expected.train, expected.validation)
    whole_best, parts_best = (load_checkpoint(tmp_path / part / BEST) for part in ("whole", "parts"))
    assert whole_best["epoch"] == parts_best["epoch"]
    assert_same_bits(parts_best["model"], whole_best["model"])


def test_killed_between_checkpoints_resumes_from_the_last_one(fabric, tmp_path):
    class KilledError(Exception):
        pass

    class Breaks(MemorySource):
        def __iter__(self):
            for batch in super().__iter__():
                if self.epoch == 1 and self.batch == 2:
                    raise KilledError
                yield batch

    whole, _, _ = run_fit(fabric, tmp_path / "whole")
    with pytest.raises(KilledError):
        run_fit(fabric, tmp_path / "killed", source=Breaks())
    resumed, _, _ = run_fit(fabric, tmp_path / "killed", resume=True)
    assert_same_bits(weights(resumed), weights(whole))


def test_mean_threshold_is_the_target_after_the_first_step_of_an_epoch(fabric, tmp_path):
    settings = TrainSettings(
        epochs=2, batch_size=8, device="cpu", loss_weight=0.9, loss_target="mean_threshold"
    )
    targets = []

    class Watches(Records):
        def on_batch(self, training, source):
            super().on_batch(training, source)
            targets.append((training.target, training.network.neuron.threshold.item()))

    network = TinyNetwork(threshold=0.4)
    records = Watches()
    fit(
        fabric, network, MemorySource(), lambda: MemorySource(samples=9), settings=settings,
        task=ClassificationTask(settings, classes=3), folder=tmp_path, observer=records,
    )  # fmt: skip
    assert all(target == threshold for target, threshold in targets)
    assert all(target != 1.0 for target, _ in targets)
    # Every epoch tells the target it ended with, which is the threshold it ended with.
    assert [record.loss_target for record in records.records] == [targets[2][0], targets[5][0]]
    assert all(record.loss_target == record.thresholds["neuron"] for record in records.records)


def test_nan_weight_stops_and_names_the_layer(fabric, tmp_path):
    class Poisons(MemorySource):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def __iter__(self):
            for batch in super().__iter__():
                if self.epoch == 1 and self.batch == 2:
                    with torch.no_grad():
                        self.network.last.weight[0, 0] = float("nan")
                yield batch

    network = TinyNetwork(dropout=0.0)
    with pytest.raises(TrainingError) as caught:
        run_fit(fabric, tmp_path, network=network, source=Poisons(network))
    message = str(caught.value)
    assert message.startswith("epoch 2, batch 2: the loss is nan; first non-finite output: layer 'last'; ")
    assert message.endswith(f"last good checkpoint: {tmp_path / LAST}")
    kept = load_checkpoint(tmp_path / LAST)
    assert kept["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in kept["model"].values())


def test_infinite_frames_are_blamed_on_the_input(fabric, tmp_path):
    class Infinite(MemorySource):
        def __iter__(self):
            for batch in super().__iter__():
                batch.frames = batch.frames / 0
                yield batch

    with pytest.raises(TrainingError, match="first non-finite output: the input frames"):
        run_fit(fabric, tmp_path, source=Infinite())


def test_nan_gradient_stops_before_the_step(fabric, tmp_path):
    class BadGradient(nn.Module):
        def forward(self, x):
            # The square root of 0 is finite, its gradient is not.
            return x + torch.sqrt(torch.zeros_like(x) * x)

    network = TinyNetwork()
    network.last = nn.Sequential(network.last, BadGradient())
    before = weights(network)
    with pytest.raises(TrainingError, match=r"batch 1: the gradient of 'first\.weight' is not finite"):
        run_fit(fabric, tmp_path, network=network)
    assert_same_bits(weights(network), before)


def test_first_nonfinite_layer_is_the_innermost():
    network = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2))
    with torch.no_grad():
        network[0][0].bias[1] = float("inf")
    assert first_nonfinite_layer(network, torch.ones(1, 1, 4)) == "layer '0.0'"
    assert not network[0][0]._forward_hooks


def test_gradient_clip_limits_the_step(fabric, tmp_path):
    free = TrainSettings(epochs=1, batch_size=8, device="cpu", optimizer="adam")
    clipped = TrainSettings(epochs=1, batch_size=8, device="cpu", optimizer="adam", gradient_clip=1e-12)
    start = TinyNetwork()
    moved = []
    for number, settings in enumerate((free, clipped)):
        network = TinyNetwork()
        network.load_state_dict(start.state_dict())
        _, _, records = run_fit(fabric, tmp_path / str(number), network=network, settings=settings)
        moved.append((network.first.weight - start.first.weight).abs().max().item())
        assert records.records[0].largest_gradient > 1e-3
    # Adam divides by the gradient plus 1e-8, so a gradient of 1e-12 hardly moves anything.
    assert moved[1] < 1e-3 * moved[0]


def test_checkpoint_of_another_network(fabric, tmp_path):
    run_fit(fabric, tmp_path, stop_after=1)
    other = TinyNetwork()
    other.last = nn.Linear(16, 4)
    with pytest.raises(TrainingError, match=r"last\.pt: of another network"):
        run_fit(fabric, tmp_path, network=other, resume=True)


def test_checkpoint_of_other_data(fabric, tmp_path):
    run_fit(fabric, tmp_path, stop_after=1)
    with pytest.raises(TrainingError, match="saved with 3 steps an epoch, resumed with 6; use 3"):
        run_fit(fabric, tmp_path, source=MemorySource(samples=48), resume=True)


def test_missing_and_damaged_checkpoints(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint is there"):
        load_checkpoint(tmp_path / "none.pt")
    path = tmp_path / "some.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"some\.pt: not a checkpoint, or damaged"):
        load_checkpoint(path)
    save_checkpoint(path, {"value": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingError, match=r"some\.pt: not a checkpoint, or damaged"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(TrainingError, match="checkpoint format 99, expected 1"):
        load_checkpoint(path)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"value": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("snn.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"value": 2})
    assert load_checkpoint(path)["value"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_random_generators_go_on_where_they_were(tmp_path):
    def draw():
        return (
            torch.rand(3).tolist(),
            np.random.standard_normal(3).tolist(),  # noqa: NPY002
            random.random(),
            random.gauss(0, 1),
        )

    draw()
    save_checkpoint(tmp_path / "r.pt", {"random": random_state()})
    expected = draw()
    draw()
    set_random_state(load_checkpoint(tmp_path / "r.pt")["random"])
    assert draw() == expected


def test_meter_by_hand():
    meter = ClassificationMeter(3)
    # Two steps; the time means are (2, 1, 0), (0, 0, 3) and (0, 1, 0).
    logits = torch.tensor(
        [[[4.0, 0, 0], [0, 0, 6], [0, 2, 0]], [[0, 2.0, 0], [0, 0, 0], [0, 0, 0]]]
    )  # fmt: skip
    meter.update(logits, torch.tensor([0, 2, 0]))
    meter.update(torch.zeros(2, 1, 3), torch.tensor([1]))
    result = meter.compute()
    assert result.samples == 4
    assert result.accuracy == 0.5
    assert result.confusion.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    e = math.e
    losses = [
        -math.log(e**2 / (e**2 + e + 1)),
        -math.log(e**3 / (e**3 + 2)),
        -math.log(1 / (e + 2)),
        math.log(3),
    ]
    assert result.loss == pytest.approx(sum(losses) / 4, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"loss_weight": 1.5}, "loss_weight must be from 0 to 1, got 1.5"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0, got 0.0; none turns it off"),
        ({"batch_size": 9, "devices": 2}, "batch_size 9 cannot be shared by 2 devices; use a multiple of 2"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(TrainingError, match=message):
        TrainSettings(**changes)


def test_devices_that_are_not_there():
    with pytest.raises(TrainingError, match="precision fp16 needs a GPU"):
        make_fabric(TrainSettings(device="cpu", precision="fp16"))
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="1 CUDA devices asked for, 0 found"):
            make_fabric(TrainSettings(device="cuda"))


def train_together(folder, _tell):
    """What each process of the test below does."""
    torch.set_num_threads(1)
    world = started_world()
    fabric = make_fabric(TrainSettings(batch_size=8, device="cpu"), world)
    if world is not None:
        fabric.launch()
    source = MemorySource(
        samples=24, batch_size=8 // fabric.world_size, rank=fabric.global_rank, world_size=fabric.world_size
    )
    records = Records()
    torch.manual_seed(11)
    network = TinyNetwork(dropout=0.0)
    # Seven samples cannot be shared equally by two.
    validation = MemorySource(
        samples=7, batch_size=2, rank=fabric.global_rank, world_size=fabric.world_size, seed=1, shuffle=False
    )
    settings = TrainSettings(epochs=3, batch_size=8, learning_rate=0.02, device="cpu")
    fit(
        fabric,
        network,
        source,
        lambda: validation,
        settings=settings,
        task=ClassificationTask(settings, classes=3),
        folder=Path(folder),
        observer=records,
    )
    result = evaluate(
        fabric,
        network,
        MemorySource(
            samples=7,
            batch_size=2,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            seed=1,
            shuffle=False,
        ),
        3,
    )
    return (
        [r.as_dict() for r in records.records],
        {k: v.tolist() for k, v in weights(network).items()},
        result.confusion.tolist(),
        result.loss,
    )


def test_two_processes_train_like_one(tmp_path):
    outcomes = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        if devices == 1:
            outcomes.append(train_together(str(folder), None))
        else:
            settings = TrainSettings(batch_size=8, device="cpu", devices=devices)
            outcomes.append(start_processes(partial(train_together, str(folder)), settings))
    (one, one_weights, one_confusion, one_loss), (two, two_weights, two_confusion, two_loss) = outcomes
    for alone, shared in zip(one, two, strict=True):
        assert shared["train_loss"] == pytest.approx(alone["train_loss"], rel=1e-4)
        assert shared["train_accuracy"] == alone["train_accuracy"]
        assert shared["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-4)
    for name, values in one_weights.items():
        np.testing.assert_allclose(two_weights[name], values, rtol=1e-3, atol=1e-5)
    # Every validation sample counted once, by whichever process.
    assert two_confusion == one_confusion
    assert np.sum(two_confusion) == 7
    assert two_loss == pytest.approx(one_loss, rel=1e-4)


def test_a_batch_in_parts_is_the_batch(fabric, tmp_path):
    torch.manual_seed(3)
    start = TinyNetwork(dropout=0.0).double()
    found = []
    for count in (1, 3):
        settings = replace(SETTINGS, epochs=1, accumulate=count, optimizer="sgd")
        network = copy.deepcopy(start)
        source = MemorySource(samples=8)
        training = Training(
            fabric, *fabric.setup(network, build_optimizer(network, settings, fused=False)), settings, 1,
            ClassificationTask(settings, classes=3),
        )  # fmt: skip
        batch = next(iter(source))
        batch = SimpleNamespace(frames=batch.frames.double(), labels=batch.labels)
        _train_step(training, batch, where="here")
        found.append((weights(network), training.totals.as_dict()))
    (whole, totals), (parts, totals_of_parts) = found
    assert totals["samples"] == totals_of_parts["samples"] == 8
    assert totals["sums"] == totals_of_parts["sums"]
    assert totals_of_parts["loss"] == pytest.approx(totals["loss"], rel=1e-12)
    assert not torch.equal(whole["last.weight"], start.last.weight)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-12, atol=1e-12)


def test_parts_have_every_sample_once():
    task = ClassificationTask(SETTINGS, classes=3)
    batch = next(iter(MemorySource()))
    parts = task.parts(batch, 3)
    assert [task.samples(part) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat([part.frames for part in parts], dim=1), batch.frames)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert task.parts(batch, 1) == [batch]
    assert len(task.parts(batch, 99)) == 8


def test_moving_mean_of_weights_by_hand():
    network = nn.Linear(1, 1, bias=False)
    network.register_buffer("count", torch.zeros((), dtype=torch.int64))
    with torch.no_grad():
        network.weight.fill_(1.0)
        average = WeightAverage(network, decay=0.15)
        for value in (2.0, 4.0):
            network.weight.fill_(value)
            network.count += 1
            average.update(network)
    # d is 1/10, then 0.15 (2/11 would be more): 0.1 + 0.9 * 2 = 1.9, then 0.15 * 1.9 + 0.85 * 4.
    with average.in_place(network):
        assert network.weight.item() == pytest.approx(0.15 * 1.9 + 0.85 * 4)
        assert network.count.item() == 2
    assert network.weight.item() == 4.0


def test_mean_of_weights_is_what_is_kept_and_goes_on_to_the_bit(fabric, tmp_path):
    settings = replace(SETTINGS, average_decay=0.9)
    network, _, _ = run_fit(fabric, tmp_path / "whole", settings=settings)
    saved = load_checkpoint(tmp_path / "whole" / LAST)
    assert not torch.equal(saved["average"]["mean"]["last.weight"], saved["model"]["last.weight"])
    run_fit(fabric, tmp_path / "parts", settings=settings, stop_after=4)
    resumed, result, _ = run_fit(fabric, tmp_path / "parts", settings=settings, resume=True)
    assert result.completed
    assert_same_bits(weights(resumed), weights(network))
    again = load_checkpoint(tmp_path / "parts" / LAST)
    assert_same_bits(again["average"]["mean"], saved["average"]["mean"])
    best = [load_checkpoint(tmp_path / name / BEST)["model"] for name in ("whole", "parts")]
    assert_same_bits(best[1], best[0])


def test_parts_and_several_processes_are_refused():
    with pytest.raises(TrainingError, match="accumulate is 2 and 2 devices share a batch already"):
        TrainSettings(batch_size=8, accumulate=2, devices=2)
