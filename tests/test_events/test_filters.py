"""Filters: the kernel against the definition for any cut of the stream, and both against a count by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suites.reader_suite import random_events

from events.errors import ConfigError
from events.filters.hot_pixels import find_hot_pixels, hot_pixels
from events.filters.reference import apply_filters
from events.filters.settings import FilterSettings
from events.filters.stream import EventFilter
from events.recording import EVENT_DTYPE

HW = (7, 9)


def events_of(*rows):
    events = np.zeros(len(rows), EVENT_DTYPE)
    for i, row in enumerate(rows):
        events[i] = row
    return events


def through(events, given_settings, cuts=(), sensor_hw=HW):
    kernel = EventFilter(given_settings, sensor_hw)
    parts = [kernel(part).copy() for part in np.split(events, sorted(cuts))]
    return np.concatenate(parts), kernel


def crops():
    return st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(5, 9), st.integers(4, 7))


any_settings = st.builds(
    FilterSettings,
    start_us=st.none() | st.integers(0, 40),
    stop_us=st.none() | st.integers(40, 110),
    crop=st.none() | crops(),
    polarity=st.sampled_from([None, "on", "off", "flip"]),
    hot_pixels=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6)), max_size=3).map(tuple),
    dedup=st.booleans(),
    refractory_us=st.none() | st.integers(1, 30),
    background_us=st.none() | st.integers(1, 10),
    downsample=st.integers(1, 3),
)


@settings(deadline=None, max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 120),
    cuts=st.lists(st.integers(0, 120), max_size=5),
    in_order=st.booleans(),
    given_settings=any_settings,
)
def test_kernel_is_the_definition_for_any_cut(seed, n, cuts, in_order, given_settings):
    events = random_events(seed, n, sensor_hw=HW, span_us=100)
    if not in_order:
        np.random.default_rng(seed).shuffle(events["t"])
    before = events.copy()
    expected, report = apply_filters(events, given_settings)
    found, kernel = through(events, given_settings, [min(cut, n) for cut in cuts])
    np.testing.assert_array_equal(found, expected)
    assert kernel.report == report
    np.testing.assert_array_equal(events, before)
    counts = report.as_dict()
    removed = sum(counts.values()) - counts["events_in"] - counts["events_out"]
    assert counts["events_in"] - removed == counts["events_out"] == len(found)
    assert (found["x"] < kernel.sensor_hw[1]).all()
    assert (found["y"] < kernel.sensor_hw[0]).all()


def test_background_activity_by_hand():
    events = events_of(
        (100, 4, 4, 1),  # nobody before it: noise
        (105, 5, 5, 0),  # its neighbour fired 5 us before
        (110, 5, 5, 1),  # its own pixel does not count, but (4, 4) 10 us before does
        (111, 5, 5, 1),  # 11 us: too long ago
        (112, 0, 0, 1),  # far from everybody, at the border
        (113, 8, 6, 1),  # likewise in the other corner
        (114, 1, 1, 1),  # diagonal neighbour of (0, 0)
    )
    found, kernel = through(events, FilterSettings(background_us=10))
    assert found["t"].tolist() == [105, 110, 114]
    assert kernel.report.background == 4


def test_refractory_by_hand():
    events = events_of((0, 1, 1, 1), (9, 1, 1, 0), (10, 1, 1, 1), (12, 2, 1, 1), (15, 1, 1, 1), (4, 1, 1, 1))
    found, kernel = through(events, FilterSettings(refractory_us=10))
    assert found["t"].tolist() == [0, 10, 12, 4]  # the clock stepped back before the last
    assert kernel.report.refractory == 2


def test_duplicates_by_hand():
    events = events_of((5, 1, 1, 1), (5, 2, 1, 1), (5, 1, 1, 1), (5, 1, 1, 0), (6, 1, 1, 1))
    found, kernel = through(events, FilterSettings(dedup=True))
    assert found.tolist() == [(5, 1, 1, True), (5, 2, 1, True), (5, 1, 1, False), (6, 1, 1, True)]
    assert kernel.report.duplicates == 1


def test_crop_and_downsample_by_hand():
    events = events_of((1, 2, 1, 1), (2, 1, 1, 1), (3, 8, 6, 0), (4, 3, 2, 1))
    chosen = FilterSettings(crop=(2, 1, 9, 7), downsample=2)
    found, kernel = through(events, chosen)
    assert found.tolist() == [(1, 0, 0, True), (3, 3, 2, False), (4, 0, 0, True)]
    assert kernel.sensor_hw == (3, 4)  # 6 x 7 pixels, the last column a partial square
    assert kernel.report.outside_crop == 1


def test_largest_coordinates_survive():
    hw = (65536, 8)
    events = events_of((-(2**61), 7, 65535, 1), (2**61, 0, 0, 0))
    found, _ = through(events, FilterSettings(dedup=True), sensor_hw=hw)
    np.testing.assert_array_equal(found, events)


def test_hot_pixels_by_rule_and_by_rate():
    events = random_events(3, 20_000, sensor_hw=(32, 32), span_us=1_000_000)
    events["x"][::20], events["y"][::20] = 3, 30  # 1000 events against some 20 of every other pixel
    events["x"][1::100], events["y"][1::100] = 7, 2
    chunks = np.array_split(events, 7)
    assert find_hot_pixels(chunks, (32, 32)) == ((3, 30), (7, 2))
    assert find_hot_pixels(chunks, (32, 32), rate_hz=500) == ((3, 30),)
    assert find_hot_pixels([], (32, 32)) == ()
    with pytest.raises(ConfigError, match="above 0 events/s, got 0"):
        find_hot_pixels([], (32, 32), rate_hz=0)


def test_a_busy_patch_of_the_scene_is_not_hot():
    counts = np.ones((100, 100), np.int64)
    counts[10:16, 10:16] = 900  # a lamp
    counts[30, 5] = counts[0, 99] = counts[20, 0] = 800  # alone: inside, in a corner, on an edge
    counts[30, 20:22] = 700  # two side by side
    counts[50:52, 20:30] = 700  # an edge
    assert hot_pixels(counts) == ((99, 0), (0, 20), (5, 30), (20, 30), (21, 30))
    assert hot_pixels(np.full((1, 1), 900)) == ()
    assert hot_pixels(np.zeros((3, 3), np.int64)) == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"crop": (3, 0, 3, 5)}, "crop 3,0,3,5 is empty; expected x0,y0,x1,y1"),
        ({"refractory_us": 0}, "refractory_us must be at least 1, got 0"),
        ({"downsample": 0}, "downsample must be at least 1, got 0"),
        ({"polarity": "up"}, "polarity 'up' is unknown; known are on, off, flip"),
        ({"start_us": 5, "stop_us": 4}, r"stop_us \(4\) must not be below start_us \(5\)"),
        (
            {"crop": (0, 0, 10, 7)},
            r"crop 0,0,10,7 reaches beyond the sensor of 7x9 .* x1 up to 9 and y1 up to 7",
        ),
        ({"hot_pixels": ((9, 0),)}, "hot pixel x=9, y=0 is outside the sensor of 7x9"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        EventFilter(FilterSettings(**given), HW)


def test_settings_say_what_they_change():
    assert FilterSettings().changes_nothing
    assert FilterSettings(downsample=2).as_dict() == {"downsample": 2}
