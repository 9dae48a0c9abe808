"""A detector that is small and untrained, recordings for it, and a clock that tests set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from events.binning.settings import PRESETS
from events.recording import EVENT_DTYPE
from events.writers.registry import SUFFIXES, write_recording
from pipelines.stream.detector import StreamNetwork
from snn.detection.detector import build_detector
from snn.detection.settings import DetectorSettings, PostSettings
from snn.neurons.settings import NEURONS

SENSOR_HW = (48, 64)
NAMES = ("circle", "square, filled", "triangle")
BINNING = replace(PRESETS["cube"], frames=3, window_us=30_000)
SETTINGS = DetectorSettings(
    neuron=NEURONS["lif"],
    width=0.125,
    neck_channels=64,
    executor="reference",
    post=PostSettings(most=5),
)


def small_network(*, binning=BINNING, sensor_hw=SENSOR_HW, seed=0, **changes) -> StreamNetwork:
    """An untrained detector that finds something in nearly every window with events."""
    torch.manual_seed(seed)
    detector = build_detector(
        replace(SETTINGS, **changes),
        in_channels=binning.channels,
        input_hw=sensor_hw,
        classes=len(NAMES),
    ).eval()
    frames = (torch.rand(binning.frames, 4, binning.channels, *sensor_hw) < 0.1).float()
    with torch.no_grad():
        for layer in detector.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        detector.train()
        detector(frames)
        detector.eval()
        # Heads of an untrained network say nothing of what they see.
        for name, weight in detector.head.named_parameters():
            if weight.dim() == 4:
                torch.nn.init.normal_(weight, std=0.05)
            elif name.endswith("bias"):
                weight.zero_()
    return StreamNetwork(detector, binning, NAMES, sensor_hw, "runs/small")


def moving_events(*, span_us=300_000, rate=200_000, sensor_hw=SENSOR_HW, seed=0, start_us=0) -> np.ndarray:
    """Events of a spot that moves over noise; times ascend."""
    rng = np.random.default_rng(seed)
    n = int(span_us / 1e6 * rate)
    events = np.zeros(n, EVENT_DTYPE)
    t = np.sort(rng.integers(0, span_us, n))
    spot = rng.random(n) < 0.7
    height, width = sensor_hw
    x = np.where(spot, (t / 4000) % width + rng.integers(0, 10, n), rng.integers(0, width, n)) % width
    y = np.where(spot, height // 3 + rng.integers(0, 10, n), rng.integers(0, height, n))
    events["t"], events["x"], events["y"] = t + start_us, x.astype(int), y.astype(int)
    events["p"] = rng.random(n) < 0.5
    return events


def recorded(path: Path, events: np.ndarray, *, sensor_hw=SENSOR_HW) -> Path:
    """The events as a file of the format that its suffix says."""
    write_recording(path, events, format=SUFFIXES[path.suffix], sensor_hw=sensor_hw)
    return path


class SetClock:
    """A clock that stands still but where it is told to go on."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
