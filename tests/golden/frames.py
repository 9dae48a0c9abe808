"""Golden vectors of binning: what M-LIF, LT-SNN and its detector make of events."""

from dataclasses import replace

import numpy as np
from golden.vector import Vector

from events.binning import numba_cpu, reference
from events.binning.resize import resize_lanes
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


def check_levels(vector: Vector) -> None:
    """One-hot frames of 80 binary frames joined to T', counted in groups, and both ways of resizing them.

    From events as well: each binary frame's pixels as events, the first repeated until all have as many.
    """
    vector.ignore("seed")
    published = _bits(vector["frames_bits"], vector["frames_shape"])  # [80, P, x, y]
    levels, multi = int(vector.scalar("S")), int(vector.scalar("multi"))
    assert multi == (levels > 1)
    chosen = BinSettings(
        frames=int(vector["pre_shape"][0]),
        tail="drop",
        levels=levels,
        sub_frames=int(vector.scalar("T_prime")),
        binary_frames=len(published),
    )
    sensor_hw = published.shape[:1:-1]
    events = _events_of(published)
    for bin_events in (reference.bin_events, numba_cpu.bin_events):
        stored = bin_events(events, settings=chosen, sensor_hw=sensor_hw).frames
        lanes = stored[:, None] == np.arange(1, levels + 1)[:, None, None, None]  # [Q, S, P, H, W]
        turned = (lanes if multi else lanes[:, 0]).swapaxes(-1, -2)
        vector.equal("pre_shape", turned.shape)
        vector.equal("pre_bits", np.packbits(turned))
        for name in ("joint", "separate"):
            wanted = vector[f"resized_{name}_u8"]
            size_hw = wanted.shape[:-3:-1]
            shares = resize_lanes(lanes.reshape(-1, *lanes.shape[2:]), size_hw, joint=name == "joint")
            vector.equal(f"resized_{name}_u8", shares.swapaxes(-1, -2).reshape(wanted.shape))
            resized = replace(chosen, size_hw=size_hw, resize=name)
            carried = bin_events(events, settings=resized, sensor_hw=sensor_hw).frames.swapaxes(-1, -2)
            merged = np.tensordot(wanted.astype(int), 2 ** np.arange(levels), (1, 0)) if multi else wanted
            assert np.array_equal(carried, merged), f"resized_{name}_u8: merged lanes differ"
    if not multi:
        plain = replace(chosen, levels=None, sub_frames=None, value="binary")
        binary = numba_cpu.bin_events(events, settings=plain, sensor_hw=sensor_hw).frames
        vector.equal("pre_bits", np.packbits(binary.swapaxes(-1, -2)))


def _bits(packed: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape)


def _events_of(frames: np.ndarray) -> np.ndarray:
    """Return events that give binary frames [T, P, x, y], as many for each."""
    pixels = [np.argwhere(frame) for frame in frames]
    most = max(map(len, pixels))
    p, x, y = np.concatenate(
        [found[np.maximum(np.arange(most) - most + len(found), 0)] for found in pixels]
    ).T
    return _events(np.arange(len(p)), x, y, p == 1)


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
