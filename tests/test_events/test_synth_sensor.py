"""The simulated sensor and the motion, against counts and times worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from events.errors import ConfigError
from events.recording import EVENT_DTYPE
from events.synth.motion import MotionSettings, closed_loops
from events.synth.sensor import SensorSettings, draw_pixels, record_moving_picture

# A sensor without mismatch, refractory time, leak or noise: nothing but its threshold.
IDEAL = SensorSettings(
    sensor_hw=(3, 5), threshold=0.25, threshold_mismatch=0, refractory_us=0, leak_rate_hz=0, noise_rate_hz=0
)


def record(picture, offsets, settings, *, seed=1, step_us=1_000):
    rng = np.random.default_rng(seed)
    pixels = draw_pixels(settings, rng)
    return record_moving_picture(
        picture.astype(np.float32), offsets, step_us=step_us, settings=settings, pixels=pixels, rng=rng
    )


def ramp(height, width, per_pixel):
    return np.tile(np.arange(width) * per_pixel, (height, 1))


def rightwards(steps, px_per_step, *, start=0.0):
    return np.stack([np.zeros(steps + 1), start + np.arange(steps + 1) * px_per_step], axis=1)


def by_pixel(events):
    for y, x in {(int(e["y"]), int(e["x"])) for e in events}:
        yield events[(events["y"] == y) & (events["x"] == x)]


def test_a_rising_ramp_gives_on_events_at_equal_times():
    # 0.1 of log intensity a pixel, half a pixel a millisecond: a threshold of 0.25 is reached every 5 ms.
    events = record(ramp(6, 60, 0.1), rightwards(100, 0.5), IDEAL)
    assert events["p"].all()
    pixels = list(by_pixel(events))
    assert len(pixels) == 15
    for one in pixels:
        # 5.0 of log intensity in all, and a first event between 0 and 2 thresholds away.
        assert 19 <= len(one) <= 21
        assert np.abs(np.diff(one["t"]) - 5_000).max() <= 1


def test_a_falling_ramp_gives_off_events():
    events = record(ramp(6, 60, 0.1), rightwards(100, -0.5, start=50), IDEAL)
    assert not events["p"].any()
    assert 15 * 19 <= len(events) <= 15 * 21


def test_the_refractory_time_adds_to_each_interval():
    # The pixel forgets what happens while it is held: 5 ms to the threshold, then 1.7 ms held.
    events = record(ramp(6, 60, 0.1), rightwards(100, 0.5), replace(IDEAL, refractory_us=1_700))
    for one in by_pixel(events):
        assert np.abs(np.diff(one["t"]) - 6_700).max() <= 1


def test_a_refractory_time_within_the_step():
    # 4 thresholds a millisecond: 250 us to the threshold, 100 us held, several events in one step.
    events = record(ramp(6, 60, 2.0), rightwards(40, 0.5), replace(IDEAL, refractory_us=100))
    assert len(events) > 15 * 100
    for one in by_pixel(events):
        assert np.abs(np.diff(one["t"]) - 350).max() <= 2


def test_nothing_moves_nothing_happens():
    assert len(record(ramp(6, 60, 0.1), np.zeros((50, 2)), IDEAL)) == 0


def test_leak_alone_gives_on_events_at_its_rate():
    events = record(np.zeros((6, 8)), np.zeros((1_001, 2)), replace(IDEAL, leak_rate_hz=40))
    assert events["p"].all()
    for one in by_pixel(events):
        assert 39 <= len(one) <= 41
        assert np.abs(np.diff(one["t"]) - 25_000).max() <= 30  # float32 steps of the accumulated leak


def test_noise_alone_has_its_rate_and_both_polarities():
    settings = replace(IDEAL, sensor_hw=(40, 50), noise_rate_hz=5)
    events = record(np.zeros((42, 52)), np.zeros((1_001, 2)), settings)
    # Poisson with a mean of 2000 pixels * 5 Hz * 1 s = 10,000; six standard deviations are 600.
    assert abs(len(events) - 10_000) < 600
    assert abs(int(events["p"].sum()) - len(events) / 2) < 300
    assert len(np.unique(events["t"])) > 9_000


def test_noise_respects_the_refractory_time():
    settings = replace(IDEAL, sensor_hw=(2, 2), noise_rate_hz=2_000, refractory_us=1_500)
    events = record(np.zeros((4, 4)), np.zeros((1_001, 2)), settings)
    assert len(events) > 1_000
    for one in by_pixel(events):
        assert np.diff(one["t"]).min() >= 1_499


def test_events_are_sorted_inside_the_sensor_and_in_time():
    rng = np.random.default_rng(3)
    settings = replace(SensorSettings(), sensor_hw=(20, 30))
    offsets = closed_loops(MotionSettings(loops=3, radius_px=4.0), steps=200) + 4
    events = record(rng.random((40, 50)) * 2, offsets, settings, step_us=700)
    assert events.dtype == EVENT_DTYPE
    assert len(events) > 1_000
    assert (np.diff(events["t"]) >= 0).all()
    assert events["t"][0] >= 0
    assert events["t"][-1] < 200 * 700
    assert events["x"].max() == 29
    assert events["y"].max() == 19
    for one in by_pixel(events):
        assert len(one) == 1 or np.diff(one["t"]).min() >= settings.refractory_us - 1


def test_a_closed_loop_gives_as_many_on_as_off_events():
    rng = np.random.default_rng(4)
    offsets = closed_loops(MotionSettings(loops=2, radius_px=4.0), steps=200) + 4
    events = record(rng.random((12, 14)) * 3, offsets, IDEAL)
    assert len(events) > 500
    for one in by_pixel(events):
        on = int(one["p"].sum())
        assert abs(on - (len(one) - on)) <= 2  # what is left of the first and of the last threshold


def test_a_bright_corner_is_seen_at_the_same_corner():
    picture = np.zeros((30, 30))
    picture[:10, :12] = 2.0  # top left
    offsets = closed_loops(MotionSettings(loops=1, radius_px=2.0), steps=50) + 2
    events = record(picture, offsets, replace(IDEAL, sensor_hw=(24, 24)))
    assert len(events) > 100
    assert events["y"].max() <= 10
    assert events["x"].max() <= 12


def test_thresholds_differ_as_set():
    settings = SensorSettings(threshold=0.2, threshold_mismatch=0.03)
    pixels = draw_pixels(settings, np.random.default_rng(0))
    for threshold in pixels:
        assert threshold.shape == (128, 128)
        assert abs(threshold.mean() - 0.2) < 0.001  # 4 standard errors of 16,384 pixels
        assert abs(threshold.std() - 0.03) < 0.001
    assert not np.array_equal(pixels.on_threshold, pixels.off_threshold)
    wild = draw_pixels(replace(settings, threshold_mismatch=1.0), np.random.default_rng(0))
    assert min(wild.on_threshold.min(), wild.off_threshold.min()) == np.float32(0.04)


def test_the_same_seed_gives_the_same_events():
    picture, offsets = ramp(6, 60, 0.1), rightwards(50, 0.5)
    first, again, other = (
        record(picture, offsets, replace(IDEAL, noise_rate_hz=20), seed=s) for s in (7, 7, 8)
    )
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(
        ConfigError, match=r"a picture of \(6, 20\) does not cover a sensor of \(3, 5\) moved"
    ):
        record(ramp(6, 20, 0.1), rightwards(100, 0.5), IDEAL)
    with pytest.raises(ConfigError, match="does not cover"):
        record(ramp(6, 60, 0.1), rightwards(10, -0.5), IDEAL)


def test_loops_are_closed_and_of_constant_speed():
    path = closed_loops(MotionSettings(loops=2, radius_px=3.0), steps=80)
    assert path.shape == (81, 2)
    assert path[0].tolist() == path[40].tolist() == path[80].tolist() == [-3.0, 0.0]
    # Corners after each quarter of a loop of 40 steps: top, right, bottom, left.
    assert path[[10, 20, 30]].tolist() == [[0.0, 3.0], [3.0, 0.0], [0.0, -3.0]]
    lengths = np.hypot(*np.diff(path, axis=0).T)
    np.testing.assert_allclose(lengths, 3.0 * np.sqrt(2) / 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SensorSettings(threshold=0), "threshold must be above 0, got 0"),
        (lambda: SensorSettings(refractory_us=-1), "refractory_us must not be negative, got -1"),
        (lambda: SensorSettings(noise_rate_hz=float("nan")), "noise_rate_hz must not be negative, got nan"),
        (lambda: SensorSettings(sensor_hw=(0, 4)), r"sensor_hw must be at least 1x1, got \(0, 4\)"),
        (lambda: MotionSettings(loops=0), "loops must be at least 1, got 0"),
        (lambda: MotionSettings(radius_px=0), "radius_px must be above 0, got 0"),
    ],
)
def test_settings_that_cannot_be_used(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
