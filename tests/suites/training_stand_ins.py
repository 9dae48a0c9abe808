"""A tiny network and batches in memory, to train in milliseconds. Importable by spawned processes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


class TinyNetwork(nn.Module):
    """Frames [T, B, 2, 4, 4] to logits [T, B, 3]: two linear layers with neurons between, and dropout."""

    def __init__(self, dropout: float = 0.5, threshold: float = 0.3) -> None:
        super().__init__()
        self.first = nn.Linear(32, 16)
        self.neuron = Neuron(NeuronSettings(threshold=threshold))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(16, 3)

    def forward(self, frames: Tensor) -> Tensor:
        return self.last(self.dropout(self.neuron(self.first(frames.flatten(2)))))


@dataclass
class MemoryBatch:
    frames: Tensor
    labels: Tensor


class MemorySource:
    """Batches of made-up samples of three classes, a new order every epoch; shared out like a feed's."""

    def __init__(self, *, samples=24, batch_size=8, rank=0, world_size=1, seed=0, shuffle=True):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(samples) % 3
        self.frames = torch.rand(2, samples, 2, 4, 4, generator=generator)
        for k in range(3):
            self.frames[:, self.labels == k, :, k] += 1.0
        self.batch_size, self.rank, self.world_size, self.shuffle = batch_size, rank, world_size, shuffle
        self.epoch = self.batch = 0
        self.wait_s = 0.0

    def __len__(self):
        share = len(self.labels[self.rank :: self.world_size])
        return -(-share // self.batch_size)

    def __iter__(self):
        order = torch.arange(len(self.labels))
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(self.epoch))
        share = order[self.rank :: self.world_size]
        for start in range(self.batch * self.batch_size, len(share), self.batch_size):
            chosen = share[start : start + self.batch_size]
            self.batch += 1
            yield MemoryBatch(self.frames[:, chosen], self.labels[chosen])
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state):
        self.epoch, self.batch = state["epoch"], state["batch"]


class Records:
    """Keeps what training tells."""

    def __init__(self):
        self.records = []
        self.losses = []
        self.targets = []
        self._before = 0.0

    def on_batch(self, training, source):
        total = training.totals.loss
        self.losses.append(total - self._before if source.batch > 1 else total)
        self._before = total
        self.targets.append(training.target)

    def on_epoch(self, record):
        self.records.append(record)
