"""Voxel cubes, counted by hand and against binned frames."""

import numpy as np
import pytest

from events.binning import reference
from events.binning.settings import BinSettings
from events.binning.voxel import voxel_cube
from events.errors import ConfigError
from events.recording import EVENT_DTYPE


def events_of(rows):
    return np.array(rows, EVENT_DTYPE)


def test_channels_are_polarity_then_place_in_the_frame():
    # 2 frames of 2 parts of 5 us from 100: parts begin at 100, 105, 110, 115.
    events = events_of([(99, 0, 0, 1), (100, 0, 0, 1), (105, 0, 0, 0), (119, 1, 0, 1), (120, 0, 0, 1)])
    given = {"sensor_hw": (1, 2), "frames": 2, "micro_bins": 2, "span_us": 20, "start_us": 100}
    cube = voxel_cube(events, **given)
    assert cube.shape == (2, 4, 1, 2)
    assert np.argwhere(cube).tolist() == [[0, 1, 0, 0], [0, 2, 0, 0], [1, 3, 0, 1]]
    published = voxel_cube(events, channels="published", **given)
    assert np.argwhere(published).tolist() == [[0, 1, 0, 0], [1, 3, 0, 1]]  # both events in channel 1
    assert published[0, 1, 0, 0] == 2


def test_separate_channels_are_frames_of_a_part_each():
    random = np.random.default_rng(5)
    events = np.zeros(500, EVENT_DTYPE)
    events["t"] = np.sort(random.integers(0, 60, 500))
    events["t"][0] = 0
    events["x"], events["y"] = random.integers(0, 7, 500), random.integers(0, 4, 500)
    events["p"] = random.integers(0, 2, 500)
    cube = voxel_cube(events, sensor_hw=(4, 7), frames=4, micro_bins=3, span_us=60)
    parts = BinSettings(frames=12, split="duration", window_us=5)
    frames = reference.bin_events(events, settings=parts, sensor_hw=(4, 7)).frames  # [T*K, P, H, W]
    np.testing.assert_array_equal(
        cube, frames.reshape(4, 3, 2, 4, 7).transpose(0, 2, 1, 3, 4).reshape(4, 6, 4, 7)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"span_us": 0}, "span_us must be at least 1, got 0"),
        ({"channels": "merged"}, "channels must be one of separate, published; got 'merged'"),
    ],
)
def test_arguments_that_cannot_be_used(wrong, message):
    given = {"sensor_hw": (1, 1), "frames": 1, "micro_bins": 1, "span_us": 1} | wrong
    with pytest.raises(ConfigError, match=message):
        voxel_cube(np.zeros(0, EVENT_DTYPE), **given)
