"""Golden vectors of binning: what M-LIF, LT-SNN and its detector make of events."""

from dataclasses import replace

import numpy as np
from golden.vector import Vector

from events.binning import numba_cpu, reference
from events.binning.settings import PRESETS, BinSettings
from events.binning.voxel import voxel_cube
from events.recording import EVENT_DTYPE


def check_events_to_frames(vector: Vector) -> None:
    """Binary frames of equal event count, remainder dropped; every bit, by both implementations."""
    vector.ignore("seed", "label")
    events = _events(*(vector[name] for name in ("t", "x", "y")), vector["p"] > 0)
    steps, _, width, height = (int(n) for n in vector["frames_shape"])  # [T, P, x, y]
    settings = BinSettings(frames=int(vector.scalar("T")), split="count", tail="drop", value="binary")
    assert steps == settings.frames
    for bin_events in (reference.bin_events, numba_cpu.bin_events):
        frames = bin_events(events, settings=settings, sensor_hw=(height, width)).frames
        vector.equal("frames_bits", np.packbits(frames.transpose(0, 1, 3, 2)))


def check_last_polarity(vector: Vector) -> None:
    """LT-SNN's pictures: red = ON, green = OFF, blue = 0; without polarity, grey (220) where there is any."""
    events = _events(*(vector[name] for name in ("t", "x", "y")), vector["p"] > 0)
    chosen = replace(PRESETS["ltsnn30"], frames=int(vector.scalar("num_frames")))
    sensor_hw = vector["frames"].shape[1:3]
    for bin_events in (reference.bin_events, numba_cpu.bin_events):
        off, on = np.moveaxis(bin_events(events, settings=chosen, sensor_hw=sensor_hw).frames, 1, 0)
        vector.equal("frames", 255 * np.stack([on, off, np.zeros_like(on)], axis=-1))
        vector.equal("frames_nopol", 220 * np.repeat((on | off)[..., None], 3, axis=-1))


def check_histogram(vector: Vector) -> None:
    """Counts by pixel and polarity: one frame of all events."""
    x, y, t, p = vector["events"].T
    events = _events(t, x, y, p > 0)
    sensor_hw = (int(vector.scalar("height")), int(vector.scalar("width")))
    for bin_events in (reference.bin_events, numba_cpu.bin_events):
        (frame,) = bin_events(events, settings=BinSettings(frames=1), sensor_hw=sensor_hw).frames
        vector.equal("hist", frame.transpose(1, 2, 0))


def check_voxel_cube(vector: Vector) -> None:
    """The detector's voxel cube, its channel numbers as released."""
    events = _events(*(vector[name] for name in ("t", "x", "y")), vector["p"] > 0)
    cube = voxel_cube(
        events,
        sensor_hw=vector["cube"].shape[2:],
        frames=int(vector.scalar("T")),
        micro_bins=int(vector.scalar("micro_bins")),
        span_us=int(vector.scalar("sample_us")),
        start_us=int(vector["t"][0]),
        channels="published",
    )
    vector.equal("cube", cube)


def _events(t: np.ndarray, x: np.ndarray, y: np.ndarray, on: np.ndarray) -> np.ndarray:
    events = np.zeros(len(t), EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, on
    return events
