"""Golden vectors of binning: the 80 binary frames of M-LIF's preparation."""

import numpy as np
from golden.vector import Vector

from events.binning import numba_cpu, reference
from events.binning.settings import BinSettings
from events.recording import EVENT_DTYPE


def check_events_to_frames(vector: Vector) -> None:
    """Binary frames of equal event count, remainder dropped; every bit, by both implementations."""
    vector.ignore("seed", "label")
    events = np.zeros(len(vector["t"]), EVENT_DTYPE)
    for name in ("t", "x", "y"):
        events[name] = vector[name]
    events["p"] = vector["p"] > 0
    steps, _, width, height = (int(n) for n in vector["frames_shape"])  # [T, P, x, y]
    settings = BinSettings(frames=int(vector.scalar("T")), split="count", tail="drop", value="binary")
    assert steps == settings.frames
    for bin_events in (reference.bin_events, numba_cpu.bin_events):
        frames = bin_events(events, settings=settings, sensor_hw=(height, width)).frames
        vector.equal("frames_bits", np.packbits(frames.transpose(0, 1, 3, 2)))
