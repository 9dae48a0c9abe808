"""A window of events through the network: encode, forward, NMS, each with the time it took."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from events.binning.settings import BinSettings
from events.binning.window_numba import bin_window
from events.recording import EVENT_DTYPE
from pipelines.errors import ExperimentError, RunError
from pipelines.stream.pace import Clock
from pipelines.stream.windows import Window
from snn.detection.detector import Detector


@dataclass(frozen=True)
class StreamNetwork:
    """A detector, and what its frames have to be like.

    Attributes:
        detector: In whole, with its weights.
        binning: How a window becomes frames, as it was trained; of split `window`.
        class_names: In the order of class numbers.
        sensor_hw: Height and width of the sensor it was trained on.
        name: What it is called in messages: the folder of its run.
        operating_score: Least score of what is shown.
    """

    detector: Detector
    binning: BinSettings
    class_names: tuple[str, ...]
    sensor_hw: tuple[int, int]
    name: str
    operating_score: float = 0.5

    def __post_init__(self) -> None:
        if self.binning.split != "window":
            raise RunError(
                f"{self.name}: was trained on frames of split {self.binning.split!r}, expected 'window'; "
                "take a run of `pipelines run detect`"
            )


class Found(NamedTuple):
    """What was found in a window.

    Attributes:
        frames: What the network saw, uint8 or uint16, shape [T, C, H, W]; the next window overwrites it.
        xyxy: In pixels of the recording's sensor, float32, shape [n, 4], best first.
        class_id: int64, shape [n].
        score: float32, shape [n].
        parts_s: Seconds of `encode`, `forward` and `nms`.
    """

    frames: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    score: np.ndarray
    parts_s: dict[str, float]


class WindowDetector:
    """Looks at window after window of one recording."""

    def __init__(
        self,
        network: StreamNetwork,
        *,
        sensor_hw: tuple[int, int],
        rescale: bool,
        stateless: bool,
        least_score: float,
        device: torch.device,
        clock: Clock,
        where: str,
    ) -> None:
        """Get ready for a recording; everything is compiled and its memory taken.

        Args:
            network: The detector.
            sensor_hw: Height and width of the recording's sensor.
            rescale: Whether a sensor of another size is brought to that of the frames.
            stateless: Whether neurons begin every window at rest; else they go on from the window before.
            least_score: Scores of detections are above.
            device: Where it computes.
            clock: What tells the time.
            where: Begins the message of an error: the recording.

        Raises:
            RunError: The sensor is of another size.
        """
        frame_hw, trained_hw = network.detector.input_hw, network.sensor_hw
        if sensor_hw != trained_hw and not rescale:
            raise RunError(
                f"{where}: its sensor has {sensor_hw[0]} x {sensor_hw[1]} pixels, those {network.name} was "
                f"trained on {trained_hw[0]} x {trained_hw[1]}; take a run of such a sensor, or --rescale to "
                "bring it to the network's frames"
            )
        size_hw = None if frame_hw == sensor_hw else frame_hw
        self._binning = replace(network.binning, size_hw=size_hw)
        self._sensor_hw, self._stateless, self._least_score = sensor_hw, stateless, least_score
        self._device, self._clock = device, clock
        self._network = network.detector.to(device).eval()
        shape = self._binning.frame_shape(sensor_hw)
        self._frames = np.zeros(shape, self._binning.dtype)
        # Pixels of the sensor to one of the frames, for x0, y0, x1, y1.
        self._scale = np.tile([sensor_hw[1] / shape[3], sensor_hw[0] / shape[2]], 2).astype(np.float32)
        self._state: dict[str, Tensor] | None = None
        for _ in range(2):
            self(Window(0, 0, network.binning.window_us or 1, np.zeros(0, EVENT_DTYPE)))
        self.begin_anew()

    def begin_anew(self) -> None:
        """Put all neurons at rest."""
        self._state = None

    @torch.no_grad()
    def __call__(self, window: Window) -> Found:
        """Return what is found at the end of a window; neurons go on from the window before."""
        began = self._clock.now()
        binning = replace(self._binning, window_us=window.stop_us - window.start_us)
        bin_window(
            window.events,
            settings=binning,
            sensor_hw=self._sensor_hw,
            stop_us=window.stop_us,
            out=self._frames,
        )
        frames = torch.from_numpy(self._frames).to(self._device).float()[:, None]
        encoded = self._now()
        predictions = self._network(frames, self._state)
        self._state = None if self._stateless else predictions.state
        forward = self._now()
        detections = self._network.detections(predictions, score_threshold=self._least_score)[0]
        xyxy, scores, labels = (tensor.cpu().numpy() for tensor in detections)
        done = self._clock.now()
        parts = {"encode": encoded - began, "forward": forward - encoded, "nms": done - forward}
        return Found(
            self._frames, xyxy.astype(np.float32) * self._scale, labels, scores.astype(np.float32), parts
        )

    def _now(self) -> float:
        """Return the time at which the device is done with what it was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock.now()


def device_named(name: str) -> torch.device:
    """Return a device: `cpu`, `cuda`, `cuda:1`, or `auto`, the first GPU where there is one.

    Raises:
        ExperimentError: There is none of this name.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise ExperimentError(f"--device {name}: expected auto, cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and int(number or 0) >= there:
        raise ExperimentError(f"--device {name}: {there} GPUs are here; use --device cpu")
    return torch.device(name)
