"""A simulated DVS128: every pixel reports when the logarithm of its light has changed by a threshold.

The pixel (Lichtsteiner, Posch, Delbruck, "A 128x128 120 dB 15 us latency asynchronous temporal contrast
vision sensor", IEEE J. Solid-State Circuits 43(2), 2008) remembers the log intensity L at its last event.
It sends ON when L has risen by its ON threshold above what it remembers, OFF when L has fallen by its
OFF threshold; it is then held in reset for the refractory time, after which it remembers the L of that
moment. Simulated after Hu, Liu, Delbruck, "v2e: from video frames to realistic DVS events", CVPR
Workshops 2021: thresholds that differ from pixel to pixel, leak that sends ON events without any change,
and noise events. The pixel's limited bandwidth and the arbitration of the readout are not simulated.

L is taken as linear in time between steps, so that events have times of their own within a step.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from events.errors import ConfigError
from events.recording import EVENT_DTYPE
from events.synth.sensor_steps import Noise, advance_all, simulate, start_state

# Height and width of the DVS128 in pixels.
DVS128_HW = (128, 128)
# A threshold is never below this share of the nominal one, whatever the mismatch draws.
LOWEST_THRESHOLD_SHARE = 0.2


@dataclass(frozen=True)
class SensorSettings:
    """What the simulated sensor is like. Log intensities are natural logarithms.

    Attributes:
        sensor_hw: Height and width in pixels.
        threshold: Nominal ON and OFF threshold in log intensity; 0.2 is v2e's default.
        threshold_mismatch: Standard deviation of the thresholds over the pixels, in log intensity;
            2.1 % is what Lichtsteiner et al. 2008 measured.
        refractory_us: How long a pixel is held in reset after an event. Set by a bias of the chip;
            0.5 ms is our choice.
        leak_rate_hz: Rate at which a pixel that sees no change sends ON events; around 0.1 Hz at room
            temperature (Nozaki and Delbruck, "Temperature and parasitic photocurrent effects in dynamic
            vision sensors", IEEE Trans. Electron Devices 64(8), 2017).
        noise_rate_hz: Rate of noise events of a pixel, ON and OFF alike; v2e's `noisy` cameras have a
            few Hz, its clean ones nearly none.
    """

    sensor_hw: tuple[int, int] = DVS128_HW
    threshold: float = 0.2
    threshold_mismatch: float = 0.021
    refractory_us: int = 500
    leak_rate_hz: float = 0.1
    noise_rate_hz: float = 0.5

    def __post_init__(self) -> None:
        if min(self.sensor_hw) < 1:
            raise ConfigError(f"sensor_hw must be at least 1x1, got {self.sensor_hw}")
        if not self.threshold > 0:
            raise ConfigError(f"threshold must be above 0, got {self.threshold}")
        for name in ("threshold_mismatch", "refractory_us", "leak_rate_hz", "noise_rate_hz"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")


class Pixels(NamedTuple):
    """The thresholds of one chip in log intensity, each float32 [H, W]."""

    on_threshold: np.ndarray
    off_threshold: np.ndarray


def draw_pixels(settings: SensorSettings, rng: np.random.Generator) -> Pixels:
    """Draw the thresholds of one chip."""
    spread = settings.threshold_mismatch * rng.standard_normal((2, *settings.sensor_hw))
    drawn = np.maximum(settings.threshold + spread, LOWEST_THRESHOLD_SHARE * settings.threshold)
    on_threshold, off_threshold = drawn.astype(np.float32)
    return Pixels(on_threshold, off_threshold)


def record_moving_picture(
    log_picture: np.ndarray,
    offsets: np.ndarray,
    *,
    step_us: int,
    settings: SensorSettings,
    pixels: Pixels,
    rng: np.random.Generator,
) -> np.ndarray:
    """Record a picture that is moved before the sensor.

    At the start of step s the pixel in row y, column x sees the picture at row y + offsets[s, 0], column
    x + offsets[s, 1], interpolated bilinearly in log intensity.

    Args:
        log_picture: Natural log of intensity, float32 [h, w], larger than the sensor by one row and
            column more than the offsets reach.
        offsets: Rows and columns, float64 [S + 1, 2], not negative.
        step_us: Length of a step in microseconds.
        settings: The sensor.
        pixels: Its thresholds.
        rng: Draws what the pixels remember at first, and the noise.

    Returns:
        Events [N], EVENT_DTYPE, sorted by time, times from 0 to S * step_us - 1.

    Raises:
        ConfigError: The picture does not cover what the sensor sees.
    """
    height, width = settings.sensor_hw
    reach = np.floor(offsets.max(axis=0)).astype(int) + 1
    if (
        offsets.min() < 0
        or log_picture.shape[0] < height + reach[0]
        or log_picture.shape[1] < width + reach[1]
    ):
        raise ConfigError(
            f"a picture of {log_picture.shape} does not cover a sensor of {settings.sensor_hw} moved from "
            f"{offsets.min(axis=0)} to {offsets.max(axis=0)}; it needs at least {settings.sensor_hw + reach}"
        )
    span_us = (len(offsets) - 1) * step_us
    # Where between its two thresholds each pixel is when the recording starts.
    phase = rng.random((height, width), dtype=np.float32)
    words = simulate(
        np.ascontiguousarray(log_picture, np.float32),
        np.ascontiguousarray(offsets, np.float64),
        step_us,
        Pixels(pixels.on_threshold.ravel(), pixels.off_threshold.ravel()),
        phase.ravel(),
        width,
        float(settings.refractory_us),
        np.float32(settings.leak_rate_hz * settings.threshold * step_us / 1e6),
        _draw_noise(settings, span_us, rng),
    )
    return words.view(EVENT_DTYPE)


def record_light(
    log_light: Iterable[np.ndarray],
    *,
    steps: int,
    step_us: int,
    settings: SensorSettings,
    pixels: Pixels,
    rng: np.random.Generator,
) -> np.ndarray:
    """Record whatever is before the sensor, rendered once a step.

    Args:
        log_light: `steps` + 1 pictures, natural log of intensity, float32 [n, H, W], n of them at once: what
            every pixel sees at the start of each step and after the last. Those at once are read before the
            next are asked for.
        steps: Number of steps.
        step_us: Length of a step in microseconds.
        settings: The sensor.
        pixels: Its thresholds.
        rng: Draws what the pixels remember at first, and the noise.

    Returns:
        Events [N], EVENT_DTYPE, sorted by time, times from 0 to steps * step_us - 1.

    Raises:
        ConfigError: There are more or fewer pictures, or one is not of the sensor's size.
    """
    height, width = settings.sensor_hw
    phase = rng.random((height, width), dtype=np.float32).ravel()
    noise = _draw_noise(settings, steps * step_us, rng)
    leak_per_step = np.float32(settings.leak_rate_hz * settings.threshold * step_us / 1e6)
    flat = Pixels(pixels.on_threshold.ravel(), pixels.off_threshold.ravel())
    changed = np.zeros((height * width + 7) // 8 * 8, np.uint8)
    step_events, words, n_words, noise_done = np.empty(256, np.uint64), np.empty(1 << 16, np.uint64), 0, 0
    level, state, done = np.empty(0, np.float32), None, 0
    for pictures in log_light:
        if pictures.shape[1:] != settings.sensor_hw:
            raise ConfigError(
                f"picture {done} is of {pictures.shape[1:]}, the sensor of {settings.sensor_hw}"
            )
        if done + len(pictures) > steps + 1:
            raise ConfigError(
                f"{steps} steps need a picture before each and one after, {steps + 1}; got more"
            )
        if state is None:
            level = pictures[0].ravel()
            state = start_state(level, phase, flat)
            pictures, done = pictures[1:], 1
        level, step_events, noise_done, words, n_words = advance_all(
            pictures, done, step_us, level, state, flat, changed, float(settings.refractory_us),
            leak_per_step, noise, noise_done, step_events, words, n_words,
        )  # fmt: skip
        done += len(pictures)
    if done != steps + 1:
        raise ConfigError(f"{steps} steps need a picture before each and one after, {steps + 1}; got {done}")
    return words[:n_words].copy().view(EVENT_DTYPE)


def _draw_noise(settings: SensorSettings, span_us: int, rng: np.random.Generator) -> Noise:
    """Draw noise events, independent of each other and of everything else."""
    pixels = settings.sensor_hw[0] * settings.sensor_hw[1]
    n = rng.poisson(settings.noise_rate_hz * span_us / 1e6 * pixels)
    return Noise(
        np.sort(rng.random(n)) * span_us, rng.integers(0, pixels, n), rng.integers(0, 2, n, dtype=np.uint64)
    )
