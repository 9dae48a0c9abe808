"""The control of what is learned from shape: events at other pixels, as many of each and at the same times.

The pixels of a sample change places by a permutation of its own. How many events a pixel sends, when, and
of which polarity stays as it was; which pixels are neighbours does not.
"""

import numpy as np

from events.errors import ConfigError


def pixel_permutation(sensor_hw: tuple[int, int], *, seed: int, sample: int) -> np.ndarray:
    """Return where each pixel goes, as numbers y * W + x, int64 [H * W]; seed and sample decide it."""
    return np.random.default_rng([seed, sample]).permutation(sensor_hw[0] * sensor_hw[1])


def shuffle_events(events: np.ndarray, goes_to: np.ndarray, *, sensor_hw: tuple[int, int]) -> np.ndarray:
    """Return events, shape [N], EVENT_DTYPE, at the places that `goes_to` says; the input is not changed.

    Raises:
        ConfigError: The permutation is of another sensor, or an event lies outside of it.
    """
    _check_size(goes_to, sensor_hw)
    if len(events) and (events["x"].max() >= sensor_hw[1] or events["y"].max() >= sensor_hw[0]):
        raise ConfigError(
            f"events reach x {events['x'].max()}, y {events['y'].max()}; expected a sensor of {sensor_hw}"
        )
    place = goes_to[events["y"].astype(np.int64) * sensor_hw[1] + events["x"]]
    shuffled = events.copy()
    shuffled["y"], shuffled["x"] = np.divmod(place, sensor_hw[1])
    return shuffled


def shuffle_frames(frames: np.ndarray, goes_to: np.ndarray) -> np.ndarray:
    """Return frames, shape [..., H, W], with their pixels at the places that `goes_to` says.

    Raises:
        ConfigError: The permutation is of another size.
    """
    _check_size(goes_to, (frames.shape[-2], frames.shape[-1]))
    flat = frames.reshape(*frames.shape[:-2], -1)
    shuffled = np.empty_like(flat)
    shuffled[..., goes_to] = flat
    return shuffled.reshape(frames.shape)


def _check_size(goes_to: np.ndarray, sensor_hw: tuple[int, int]) -> None:
    if len(goes_to) != sensor_hw[0] * sensor_hw[1]:
        raise ConfigError(f"a permutation of {len(goes_to)} pixels does not fit a sensor of {sensor_hw}")
