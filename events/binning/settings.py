"""Settings of binning: which events fall in which frame, and what a frame holds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from events.errors import ConfigError

Split = Literal["count", "time", "duration"]
Tail = Literal["last", "drop", "own"]
Value = Literal["count", "binary", "last_time", "last_polarity"]
Resize = Literal["direct", "area"]
Dtype = Literal["uint8", "uint16"]


@dataclass(frozen=True)
class BinSettings:
    """How the events of one recording become frames `[T, P, H, W]`.

    With N events, t_first the earliest and t_last the latest time of any of them (so that a clock that
    stepped back does no harm), frame i of T receives:

    =========  ==============================  =========================  ============================
    split      frame i                         `tail="last"`              `tail="drop"`
    =========  ==============================  =========================  ============================
    count      events i*k to (i+1)*k in file   the last frame also takes  the last N mod T events are
               order, k = N // T               the last N mod T           left out
    time       i*dt <= t - t_first < (i+1)*dt  the last frame also takes  events at or after
               dt = (t_last - t_first) // T,   all events after it        t_first + T*dt are left out
               at least 1 microsecond
    duration   the same, dt = window_us        a window the recording     windows that end after t_last
                                               does not fill is kept      are left out
    =========  ==============================  =========================  ============================

    `tail="own"`, for `time` alone, keeps the last frame for what is left over: with more than one frame
    dt = (t_last - t_first) // (T - 1), at least 1 microsecond, and frame T - 1 takes all events after
    the first T - 1 frames.

    `count` goes by place in the file, whatever the times say; `time` and `duration` go by each event's
    own time, whatever its place. With fewer events than frames `count` has k = 0: all events are tail.
    A recording without events gives frames of zeros.

    These are the rules of SpikingJelly (split by number or time: `last`), of tonic (`n_event_bins`,
    `n_time_bins`, `time_window`: `drop`), of conv_snn (`count`, `drop`) and of LT-SNN (`time`, `own`).

    Attributes:
        frames: Number of frames T. With `split="duration"` the number kept: windows past it are cut,
            missing ones are zeros.
        split: `count`, `time` or `duration`, see the table.
        tail: What happens to the events left over, see the table.
        window_us: Length of a frame in microseconds, for `split="duration"` alone.
        value: `count`: events per pixel. `binary`: 1 where there is any. `last_time`: time of the
            pixel's latest event in the frame, from 1 (first microsecond of the frame) to the largest
            value of the dtype (last microsecond); 0 where there is none. The frame's first and last
            microsecond are `t_edges_us[i]` and `t_edges_us[i + 1] - 1`; a time outside is moved to the
            nearer, and a frame of one microsecond gives the largest value. `last_polarity`: 1 in the plane
            of the polarity that the pixel's last event in the frame has, in file order; 0 in the other.
        size_hw: Height and width of the frames; None keeps the sensor's.
        resize: `direct`: an event is counted in the cell it falls in (y * H // sensor_h).
            `area`: each polarity plane is counted at sensor size, then each target cell takes the
            counts under it, a pixel that straddles cells giving each its share of area; halves are
            rounded up. A plane keeps its sum up to that rounding.
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
        for name, choices in (
            ("split", Split),
            ("tail", Tail),
            ("value", Value),
            ("resize", Resize),
            ("dtype", Dtype),
        ):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ConfigError(f"{name} must be one of {known}; got {getattr(self, name)!r}")
        if self.frames < 1:
            raise ConfigError(f"frames must be at least 1, got {self.frames}")
        if (self.split == "duration") != (self.window_us is not None):
            raise ConfigError(
                f"window_us belongs to split 'duration' and only there, got split {self.split!r} "
                f"and window_us {self.window_us}"
            )
        if self.tail == "own" and self.split != "time":
            raise ConfigError(f"tail 'own' needs split 'time', got {self.split!r}; use tail 'last' or 'drop'")
        if self.window_us is not None and self.window_us < 1:
            raise ConfigError(f"window_us must be at least 1 microsecond, got {self.window_us}")
        if self.size_hw is not None and min(self.size_hw) < 1:
            raise ConfigError(f"size_hw must be at least 1x1, got {self.size_hw}")
        if self.resize == "area" and self.value != "count":
            raise ConfigError(f"resize 'area' needs value 'count', got {self.value!r}; use resize 'direct'")

    @property
    def largest_value(self) -> int:
        """The largest value a pixel of a frame can have."""
        return int(np.iinfo(self.dtype).max)

    def frame_shape(self, sensor_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return [T, P, H, W] of the frames of a sensor of that height and width."""
        height, width = self.size_hw or sensor_hw
        return self.frames, 2, height, width


class Frames(NamedTuple):
    """The frames of one recording.

    Attributes:
        frames: Shape [T, P, H, W], P = (OFF, ON), dtype as set.
        t_edges_us: First microsecond of each frame and, last, the first one no longer covered; shape
            [T + 1], int64, never falling. With `split="count"` a frame starts with its first event, or
            where the frame before it does if that is later or it has no event. All 0 without events.
        n_events: Events counted, those in saturated pixels included.
        n_saturated: Pixels whose count went above the largest value of the dtype.
    """

    frames: np.ndarray
    t_edges_us: np.ndarray
    n_events: int
    n_saturated: int


# Named preparations of published code.
PRESETS: dict[str, BinSettings] = {
    # One-hot M-LIF: 80 binary frames of equal event count, remainder dropped
    # (Abillama et al., IEEE Access 2025, released dvscifar_prepare).
    "mlif80": BinSettings(frames=80, split="count", tail="drop", value="binary"),
    # TET: 10 binary frames of equal event count, remainder dropped
    # (Deng et al., ICLR 2022, released frame script).
    "tet10": BinSettings(frames=10, split="count", tail="drop", value="binary"),
    # LT-SNN: 29 frames of equal time, one of what is left over; the pixel's last event decides
    # (Hasssan et al., IJCNN 2024, released event readers). The release stores pictures: red = 255 * ON,
    # green = 255 * OFF, blue = 0, so that these two planes hold all there is, 255 times smaller.
    "ltsnn30": BinSettings(frames=30, split="time", tail="own", value="last_polarity"),
}
