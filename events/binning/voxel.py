"""Voxel cubes: frames whose channels are polarity and place in time within the frame.

Source: Cordone, Miramond, Thierion, "Object detection with spiking neural networks on automotive event data",
IJCNN 2022; the released data set of LT-SNN's detector.
"""

from typing import Literal, get_args

import numpy as np

from events.binning.reference import check_events
from events.errors import ConfigError

Channels = Literal["separate", "published"]


def voxel_cube(
    events: np.ndarray,
    *,
    sensor_hw: tuple[int, int],
    frames: int,
    micro_bins: int,
    span_us: int,
    start_us: int = 0,
    channels: Channels = "separate",
) -> np.ndarray:
    """Count events by frame, polarity, micro bin and pixel.

    The span is cut into frames * micro_bins equal parts: an event at time t lies in part
    n = (t - start_us) * frames * micro_bins // span_us, that is in frame n // micro_bins and its micro bin
    k = n mod micro_bins. Events outside [start_us, start_us + span_us) are left out. The input is kept.

    Args:
        events: Shape [N], EVENT_DTYPE, all inside the sensor.
        sensor_hw: Height and width of the sensor in pixels.
        frames: Number of frames T.
        micro_bins: Parts K of a frame.
        span_us: Microseconds covered by all frames.
        start_us: First microsecond covered; the release takes the time of the first event.
        channels: Which channel an event of polarity p counts in. `separate`: p * K + k. `published`:
            (p + 1) * (k + 1) - 1, which for K = 2 counts OFF of the second half and ON of the first half
            together in channel 1, and leaves channel 2 empty.

    Returns:
        Counts, int32, shape [T, 2 * K, H, W].

    Raises:
        ConfigError: The array is no event array, an event lies outside the sensor, or a number is below 1.
    """
    check_events(events, sensor_hw)
    for name, value in (("frames", frames), ("micro_bins", micro_bins), ("span_us", span_us)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if channels not in get_args(Channels):
        raise ConfigError(f"channels must be one of {', '.join(get_args(Channels))}; got {channels!r}")
    kept = events[(events["t"] >= start_us) & (events["t"] < start_us + span_us)]
    frame, k = np.divmod((kept["t"] - start_us) * (frames * micro_bins) // span_us, micro_bins)
    p = kept["p"].astype(np.int64)
    channel = p * micro_bins + k if channels == "separate" else (p + 1) * (k + 1) - 1
    counts = np.zeros((frames, 2 * micro_bins, *sensor_hw), np.int32)
    np.add.at(counts, (frame, channel, kept["y"], kept["x"]), 1)
    return counts
