"""Settings of binning: which events fall in which frame, and what a frame holds."""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from events.binning.levels import check_fit, check_levels, frames_of, sub_frames_of
from events.errors import ConfigError

Split = Literal["count", "time", "duration", "window"]
Tail = Literal["last", "drop", "own"]
Value = Literal["count", "binary", "last_time", "last_polarity", "lane"]
Resize = Literal["direct", "area", "separate", "joint"]
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

    `window` bins a window of window_us whose bounds are given with the events, as before a label of a
    detection data set: `events.binning.window` has its rules.

    These are the rules of SpikingJelly (split by number or time: `last`), of tonic (`n_event_bins`,
    `n_time_bins`, `time_window`: `drop`), of conv_snn (`count`, `drop`) and of LT-SNN (`time`, `own`).

    Attributes:
        frames: Number of frames T. With `split="duration"` the number kept: windows past it are cut,
            missing ones are zeros.
        split: `count`, `time` or `duration`, see the table, or `window`.
        tail: What happens to the events left over, see the table.
        window_us: Length in microseconds of a frame with `split="duration"`, of the whole window with
            `split="window"`; for these alone.
        value: `count`: events per pixel. `binary`: 1 where there is any. `last_time`: time of the
            pixel's latest event in the frame, from 1 (first microsecond of the frame) to the largest
            value of the dtype (last microsecond); 0 where there is none. The frame's first and last
            microsecond are `t_edges_us[i]` and `t_edges_us[i + 1] - 1`; a time outside is moved to the
            nearer, and a frame of one microsecond gives the largest value. `last_polarity`: 1 in the plane
            of the polarity that the pixel's last event in the frame has, in file order; 0 in the other.
            `lane`: follows from `levels`.
        size_hw: Height and width of the frames; None keeps the sensor's.
        resize: `direct`: an event is counted in the cell it falls in (y * H // sensor_h).
            `area`: each polarity plane is counted at sensor size, then each target cell takes the
            counts under it, a pixel that straddles cells giving each its share of area; halves are
            rounded up. A plane keeps its sum up to that rounding.
            `separate` and `joint`, with `levels` alone: `events.binning.resize`.
        dtype: Type of the frames; counts above its largest value stay there and are counted. With `levels`
            it follows: uint8, and uint16 where lanes are resized.
        levels: Number of lanes S; None for none. The table then cuts the recording into T' sub-frames, of
            which F = 2^(S-1) make a frame: `events.binning.levels` has the rules and what is stored.
        sub_frames: Number of sub-frames T'; frames must be Q = ceil(T' / F). None fills all: T' = Q * F.
        binary_frames: The published detour, with `split="count"` and values `binary` and `lane`: the
            recording is cut into this many binary frames, of which neighbours are joined (OR) until T' are
            left, or T without levels. So k = N // binary_frames * (binary_frames // T'), a few events less.
        micro_bins: With `split="window"`, parts n of a frame, with a channel for each polarity; None is 1.
        cutoff: With `split="window"` and value `count`, where counts stop; None is the dtype's largest value.
        rvt_compat: With `split="window"` and one frame, bin as RVT's preprocessing does: parts between the
            first and the last event in float32, and counts that wrap at 256 before they are cut off.
        dedup: With `split="window"`, leave out an event equal in t, x, y and p to the last one of its pixel
            and polarity, as some 14 % of Gen1's are (reported for Prophesee's toolbox).
        window_events: With `split="window"`, how many events at most, the last ones: the window then begins
            with the first of them, and window_us is how far back it may reach.
    """

    frames: int = 10
    split: Split = "count"
    tail: Tail = "last"
    window_us: int | None = None
    value: Value = "count"
    size_hw: tuple[int, int] | None = None
    resize: Resize = "direct"
    dtype: Dtype = "uint8"
    levels: int | None = None
    sub_frames: int | None = None
    binary_frames: int | None = None
    micro_bins: int | None = None
    cutoff: int | None = None
    rvt_compat: bool | None = None
    dedup: bool | None = None
    window_events: int | None = None

    def __post_init__(self) -> None:
        self._check_levels()
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
        if (self.split in ("duration", "window")) != (self.window_us is not None):
            raise ConfigError(
                f"window_us belongs to split 'duration' or 'window' and only there, got split {self.split!r} "
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
        if self.binary_frames is not None:
            self._check_binary_frames(self.binary_frames)
        self._check_window()

    def _check_window(self) -> None:
        """Check the settings that belong to windows of given bounds."""
        for name in ("rvt_compat", "dedup"):
            object.__setattr__(self, name, getattr(self, name) or None)
        names = ("micro_bins", "cutoff", "rvt_compat", "dedup", "window_events")
        given = {name: getattr(self, name) for name in names}
        if self.split != "window":
            extra = [name for name, value in given.items() if value is not None]
            if extra:
                raise ConfigError(f"{' and '.join(extra)} need split 'window', got {self.split!r}")
            return
        if self.value not in ("count", "binary") or self.resize != "direct" or self.tail != "last":
            raise ConfigError(
                "split 'window' needs value 'count' or 'binary', resize 'direct' and tail 'last', got "
                f"{self.value!r}, {self.resize!r} and {self.tail!r}"
            )
        for name in ("micro_bins", "cutoff", "window_events"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.cutoff is not None and (self.value != "count" or self.cutoff > int(np.iinfo(self.dtype).max)):
            raise ConfigError(
                f"cutoff {self.cutoff} needs value 'count' and must fit {self.dtype}, got {self.value!r}"
            )
        if self.rvt_compat and (self.value, self.frames, self.dtype) != ("count", 1, "uint8"):
            raise ConfigError(
                "rvt_compat needs value 'count', one frame and dtype 'uint8', got "
                f"{self.value!r}, {self.frames} and {self.dtype!r}"
            )
        if self.rvt_compat and self.window_events is not None:
            raise ConfigError(
                "rvt_compat and window_events exclude each other: RVT's windows are of one length"
            )

    def _check_levels(self) -> None:
        """Check the settings that come with levels, and set those that follow from them."""
        if self.levels is None:
            if self.value == "lane" or self.sub_frames is not None or self.resize in ("separate", "joint"):
                raise ConfigError(
                    "value 'lane', sub_frames, and resize 'separate' and 'joint' need levels, got none; "
                    "set levels (S), or leave them out"
                )
            return
        check_fit(self.frames, self.sub_frames, self.levels)
        if self.value not in ("count", "lane"):
            raise ConfigError(f"levels makes frames of value 'lane', got value {self.value!r}; leave out one")
        if self.resizes_lanes and self.size_hw is None:
            raise ConfigError(f"resize {self.resize!r} needs a size, got none; set size_hw")
        object.__setattr__(self, "value", "lane")
        object.__setattr__(self, "dtype", "uint16" if self.resizes_lanes else "uint8")

    def _check_binary_frames(self, binary_frames: int) -> None:
        if self.split != "count" or self.value not in ("binary", "lane"):
            raise ConfigError(
                "binary_frames needs split 'count' and value 'binary' or levels, got split "
                f"{self.split!r} and value {self.value!r}; leave it out"
            )
        if binary_frames < self.pieces or binary_frames % self.pieces:
            name = "frames (T)" if self.levels is None else "sub_frames (T')"
            raise ConfigError(
                f"binary_frames {binary_frames} cannot be joined to {name} {self.pieces}: it must be a "
                "multiple of it"
            )

    @property
    def pieces(self) -> int:
        """Into how many pieces the recording is cut: T' with levels, else T."""
        if self.levels is None:
            return self.frames
        return self.sub_frames or self.frames * sub_frames_of(self.levels)

    @property
    def resizes_lanes(self) -> bool:
        """Whether lanes are made at sensor size and resized then."""
        return self.resize in ("separate", "joint")

    @property
    def before_resizing(self) -> "BinSettings":
        """The settings of the lanes at sensor size that are resized then."""
        return replace(self, resize="direct", size_hw=None)

    @property
    def cut(self) -> "BinSettings":
        """The settings of the pieces the recording is cut into: binary sub-frames with levels, else these."""
        if self.levels is None:
            return self
        return replace(self, frames=self.pieces, value="binary", levels=None, sub_frames=None, dtype="uint8")

    def events_per_piece(self, events: int) -> int:
        """Return k, the number of events in a piece by `split="count"`, of so many in a recording."""
        if self.binary_frames is None:
            return events // self.pieces
        return events // self.binary_frames * (self.binary_frames // self.pieces)

    @property
    def largest_value(self) -> int:
        """The largest value a pixel of a frame can have."""
        return self.cutoff or int(np.iinfo(self.dtype).max)

    @property
    def channels(self) -> int:
        """Planes of a frame: the two polarities, each with its micro bins."""
        return 2 * (self.micro_bins or 1)

    def frame_shape(self, sensor_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return [T, P, H, W] of the frames of a sensor of that height and width; P is `channels`."""
        height, width = self.size_hw or sensor_hw
        return self.frames, self.channels, height, width


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


def changed_binning(settings: BinSettings, **changes: Any) -> BinSettings:
    """Return settings with those changed that are not None; Q follows from T' and S where it is not given.

    Raises:
        ConfigError: They do not fit together.
    """
    changed = {name: value for name, value in changes.items() if value is not None}
    levels, sub_frames = (changed.get(name, getattr(settings, name)) for name in ("levels", "sub_frames"))
    if "frames" not in changed and levels is not None and sub_frames is not None:
        check_levels(levels)
        changed["frames"] = frames_of(sub_frames, levels)
    return replace(settings, **changed)


# Named preparations of published code.
PRESETS: dict[str, BinSettings] = {
    # One-hot M-LIF: 80 binary frames of equal event count, remainder dropped
    # (Abillama et al., IEEE Access 2025, released dvscifar_prepare).
    "mlif80": BinSettings(frames=80, split="count", tail="drop", value="binary"),
    # One-hot M-LIF, the smallest of its six: 80 binary frames joined to T' = 10, S = 3, so that Q = 3
    # (Abillama et al., released dvscifar_dataloader: multi_channel 1, num_channels 3, T_prime 10).
    "mlif": BinSettings(frames=3, split="count", tail="drop", levels=3, sub_frames=10, binary_frames=80),
    # TET: 10 binary frames of equal event count, remainder dropped
    # (Deng et al., ICLR 2022, released frame script).
    "tet10": BinSettings(frames=10, split="count", tail="drop", value="binary"),
    # LT-SNN: 29 frames of equal time, one of what is left over; the pixel's last event decides
    # (Hasssan et al., IJCNN 2024, released event readers). The release stores pictures: red = 255 * ON,
    # green = 255 * OFF, blue = 0, so that these two planes hold all there is, 255 times smaller.
    "ltsnn30": BinSettings(frames=30, split="time", tail="own", value="last_polarity"),
    # Voxel cube: 100 ms before a label, 5 steps of 2 micro bins, binary
    # (Cordone, Miramond, Thierion, IJCNN 2022; with a channel of its own for each polarity and micro bin).
    "cube": BinSettings(frames=5, split="window", window_us=100_000, value="binary", micro_bins=2),
    # Stacked histogram: 50 ms before a label, 10 bins a polarity in one step, counts up to 10
    # (Gehrig and Scaramuzza, RVT, CVPR 2023, `stacked_histogram_dt=50_nbins=10`).
    "stack": BinSettings(frames=1, split="window", window_us=50_000, micro_bins=10, cutoff=10),
    # The same, computed as RVT's preprocessing does.
    "rvt": BinSettings(frames=1, split="window", window_us=50_000, micro_bins=10, cutoff=10, rvt_compat=True),
    # Events per pixel and polarity in 5 steps of the 100 ms before a label.
    "counts": BinSettings(frames=5, split="window", window_us=100_000),
}
