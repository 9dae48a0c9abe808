"""Settings of binning: which events fall in which frame, and what a frame holds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from events.errors import ConfigError

Split = Literal["count", "time", "duration"]
Tail = Literal["last", "drop"]
Value = Literal["count", "binary", "last_time"]
Resize = Literal["direct", "area"]
Dtype = Literal["uint8", "uint16"]


@dataclass(frozen=True)
class BinSettings:
    """How the events of one recording become frames `[T, P, H, W]`.

    Attributes:
        frames: Number of frames T; with `split="duration"` the number kept, the rest is padded with
            zeros or cut.
        split: `count`: N // T events a frame, in file order. `time`: (t_last - t_first) // T
            microseconds a frame. `duration`: `window_us` a frame, from the first event.
        tail: What happens to the events left over. `last`: they join the last frame (SpikingJelly;
            for `duration` an unfinished last window is kept). `drop`: they are left out (tonic,
            conv_snn; for `duration` an unfinished last window is left out).
        window_us: Length of a frame in microseconds, for `split="duration"` alone.
        value: `count`: events per pixel. `binary`: 1 where there is any. `last_time`: time of the
            last event of the pixel within its frame, scaled from 1 (frame start) to the largest value
            of the dtype (frame end); 0 where there is none.
        size_hw: Height and width of the frames; None keeps the sensor's.
        resize: `direct`: an event is counted in the cell it falls in (y * H // sensor_h).
            `area`: each polarity plane is counted at sensor size, then averaged over the area of each
            target cell and scaled by the cell's area in sensor pixels, so that a plane keeps its sum
            up to rounding.
        dtype: Type of the frames; counts above its largest value stay there and are counted.
    """

    frames: int = 10
    split: Split = "count"
    tail: Tail = "last"
    window_us: int | None = None
    value: Value = "count"
    size_hw: tuple[int, int] | None = None
    resize: Resize = "direct"
    dtype: Dtype = "uint8"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1, got {self.frames}")
        if (self.split == "duration") != (self.window_us is not None):
            raise ConfigError(
                f"window_us belongs to split 'duration' and only there, got split {self.split!r} "
                f"and window_us {self.window_us}"
            )
        if self.window_us is not None and self.window_us < 1:
            raise ConfigError(f"window_us must be at least 1 microsecond, got {self.window_us}")
        if self.size_hw is not None and min(self.size_hw) < 1:
            raise ConfigError(f"size_hw must be at least 1x1, got {self.size_hw}")
        if self.resize == "area" and self.value != "count":
            raise ConfigError(f"resize 'area' needs value 'count', got {self.value!r}; use resize 'direct'")


class Frames(NamedTuple):
    """The frames of one recording.

    Attributes:
        frames: Shape [T, P, H, W], P = (OFF, ON), dtype as set.
        t_edges_us: First microsecond of each frame and, last, one after the last event counted;
            shape [T + 1], int64.
        n_events: Events counted, those in saturated pixels included.
        n_saturated: Pixels whose count went above the largest value of the dtype.
    """

    frames: np.ndarray
    t_edges_us: np.ndarray
    n_events: int
    n_saturated: int


# Named preparations of published code.
PRESETS: dict[str, BinSettings] = {
    # One-hot M-LIF: 80 binary frames of equal event count, remainder dropped (specification mlif 4.2).
    "mlif80": BinSettings(frames=80, split="count", tail="drop", value="binary"),
    # TET: 10 binary frames of equal event count, remainder dropped (specification event_io 1.3).
    "tet10": BinSettings(frames=10, split="count", tail="drop", value="binary"),
}
