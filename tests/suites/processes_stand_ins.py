"""What processes that train together do in tests. Importable by spawned processes."""

from pathlib import Path

import torch
from suites.training_stand_ins import MemorySource, Records
from torch import Tensor, nn

from snn.layers import ConvBlock, StepDropout, Stepwise
from snn.neurons.settings import NeuronSettings
from snn.sparsity.apply import add_gates
from snn.sparsity.settings import SparsitySettings
from snn.training.classification import ClassificationTask
from snn.training.devices import make_fabric, started_world
from snn.training.fit import fit
from snn.training.settings import TrainSettings

# What processes must agree on beyond weights: statistics, learned thresholds, what is drawn, losses of gates.
CASES = {
    "learned threshold, mean threshold as target, clipped": {},
    "dropout of samples": {"network": {"dropout_per": "sample"}},
    "thresholds that no gradient reaches": {"network": {"threshold_gradient": "none"}},
    "channel predictor": {"gates": SparsitySettings("channel_predictor", ratio=0.5, warm_up_batches=2)},
    "random channels": {
        "gates": SparsitySettings("channel_predictor", target="prune_fraction", random="drawn")
    },
    "drawn squeeze gates": {"gates": SparsitySettings("channel", warm_up_batches=2)},
    "drawn gates of patches": {"gates": SparsitySettings("spatial", warm_up_batches=2)},
    "channel gating": {"gates": SparsitySettings("channel_gating", warm_up_batches=2)},
}
# Stopped after four batches and resumed by another number of processes.
STOPPED = "drawn squeeze gates"
# Five samples are in the last batch: three for the first process, two for the second.
SAMPLES, BATCH, VALIDATION = 21, 8, 7


class ConvNetwork(nn.Module):
    """Frames [T, B, 2, 4, 4] to logits [T, B, 3]: conv blocks with normalisation, dropout, a linear layer."""

    def __init__(self, dropout_per="step", **neuron) -> None:
        super().__init__()
        neuron = NeuronSettings(threshold=0.6, learn_threshold=True, **neuron)
        self.block1 = ConvBlock(2, 8, neuron=neuron, executor="reference")
        self.block2 = ConvBlock(8, 8, neuron=neuron, executor="reference")
        self.pool = Stepwise(nn.AdaptiveAvgPool2d(2))
        self.dropout = StepDropout(0.3, per=dropout_per)
        self.classifier = nn.Linear(32, 3)

    def forward(self, frames: Tensor) -> Tensor:
        features = self.pool(self.block2(self.block1(frames))).flatten(2)
        return self.classifier(self.dropout(features))


class DoubleSource(MemorySource):
    """Frames in float64, so that nothing but the order of sums can differ."""

    def __iter__(self):
        for batch in super().__iter__():
            batch.frames = batch.frames.double()
            yield batch

    def __len__(self):
        return -(-len(self.labels) // (self.batch_size * self.world_size))


def source(fabric, samples, **options):
    W = fabric.world_size
    return DoubleSource(
        samples=samples, batch_size=BATCH // W, rank=fabric.global_rank, world_size=W, **options
    )


def train_case(fabric, folder, name, *, stop_after=None, resume=False):
    """Train one case in this process, and return everything that must not depend on how many there are."""
    case, records = CASES[name], Records()
    settings = TrainSettings(
        epochs=3, batch_size=BATCH, learning_rate=0.02, gradient_clip=1.0, device="cpu", loss_weight=0.3,
        loss_target="mean_threshold", checkpoint_every_s=0.0,
    )  # fmt: skip
    torch.manual_seed(11)
    network = ConvNetwork(**case.get("network", {}))
    if "gates" in case:
        add_gates(network, case["gates"])
    network = network.double()
    validation = source(fabric, VALIDATION, seed=1, shuffle=False)
    result = fit(
        fabric, network, source(fabric, SAMPLES), lambda: validation, settings=settings,
        task=ClassificationTask(settings, classes=3), folder=Path(folder), observer=records, resume=resume,
        should_stop=lambda: stop_after is not None and fabric.global_rank == 0
        and len(records.losses) >= stop_after,
    )  # fmt: skip
    return {
        "completed": result.completed,
        "losses": records.losses,
        "records": [
            {k: v for k, v in r.as_dict().items() if k not in ("train_s", "data_wait_share", "best")}
            for r in records.records
        ],
        "state": {key: tensor.tolist() for key, tensor in network.state_dict().items()},
    }


def train_all(folder, _tell=None):
    """Every case, one after the other, so that processes are started once; then stop in one, for a resume."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        world = started_world()
        fabric = make_fabric(TrainSettings(batch_size=BATCH, device="cpu"), world)
        if world is not None:
            fabric.launch()
        outcomes = {name: train_case(fabric, _made(folder, name), name) for name in CASES}
        stopped = train_case(fabric, _made(folder, "stopped"), STOPPED, stop_after=4)
        return outcomes, stopped
    finally:
        torch.set_default_dtype(torch.float32)


def _made(folder, name):
    place = Path(folder) / name.replace(" ", "-").replace(",", "")
    place.mkdir(parents=True, exist_ok=True)
    return place
