"""Which windows of a labelled recording become samples, and the reasons given for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.datasets.detection.boxes import join_plans
from events.datasets.detection.windows import (
    EARLY,
    KEPT,
    LABEL,
    NEGATIVE,
    OFF_GRID,
    REGULAR,
    WindowRules,
    plan_windows,
)
from events.errors import ConfigError
from events.labels.table import LabelTable, make_table

SENSOR_HW = (100, 200)


def labels_at(*times: int, xyxy=(10, 20, 30, 60), coverage=None) -> LabelTable:
    """Return one box at each time."""
    return make_table(times, [xyxy] * len(times), [0] * len(times), class_names=("car",), coverage=coverage)


def test_windows_end_at_label_times_with_the_boxes_of_that_time():
    labels = make_table(
        [250, 250, 500, 750], [(0, 0, 9, 9), (1, 1, 8, 8), (2, 2, 7, 7), (3, 3, 6, 6)], [0, 1, 0, 1]
    )
    plan = plan_windows(labels, WindowRules(window_us=100), sensor_hw=SENSOR_HW)
    assert plan.stop_us.tolist() == [250, 500, 750]
    assert plan.why.tolist() == [LABEL] * 3
    assert plan.box_ptr.tolist() == [[0, 2], [2, 3], [3, 4]]
    assert plan.labels.xyxy[2].tolist() == [2, 2, 7, 7]


def test_labels_before_the_first_time_are_left_out():
    plan = plan_windows(labels_at(99, 100, 400), WindowRules(first_us=100), sensor_hw=SENSOR_HW)
    assert (plan.stop_us.tolist(), plan.fate.tolist()) == ([100, 400], [EARLY, KEPT, KEPT])
    assert plan.explain(99) == "99 us: left out; a label before first_us, 100 us"
    assert plan.counts() == {"label times before 100 us": 1}


def test_the_grid_goes_from_the_label_kept_before():
    """Drift of 2 ms a step is followed; 2.001 ms is too far."""
    rules = WindowRules(first_us=100_000, grid_us=250_000, tolerance_us=2_000)
    times = (100_000, 352_000, 604_000, 700_000, 1_106_001, 1_356_000)
    plan = plan_windows(labels_at(*times), rules, sensor_hw=SENSOR_HW)
    assert plan.fate.tolist() == [KEPT, KEPT, KEPT, OFF_GRID, OFF_GRID, KEPT]
    assert plan.explain(1_106_001) == (
        "1106001 us: left out; 502001 us after the label kept before it (604000 us), which is not within "
        "2000 us of a multiple of grid_us, 250000 us"
    )
    assert (
        plan.explain(604_000) == "604000 us: kept; window [504000, 604000) us ends at a label time, 1 boxes"
    )
    assert plan.explain(5) == "5 us: no label and no window ends there; the nearest label is at 100000 us"


def test_empty_windows_are_taken_where_the_labels_say_so():
    """Covered are 0 to 1000 and 2000 to 2300; a label at 400 keeps windows nearer than 100 away."""
    labels = labels_at(400, coverage=[(0, 1000), (2000, 2300)])
    rules = WindowRules(window_us=100, negatives_us=150)
    plan = plan_windows(labels, rules, sensor_hw=SENSOR_HW)
    negative = plan.stop_us[plan.why == NEGATIVE].tolist()
    assert negative == [0, 150, 300, 600, 750, 900, 2100, 2250]
    assert (plan.box_ptr[:, 1] - plan.box_ptr[:, 0])[plan.why == NEGATIVE].tolist() == [0] * 8
    assert "is known to be empty" in plan.explain(600)
    assert len(plan_windows(labels_at(400), rules, sensor_hw=SENSOR_HW)) == 1


def test_a_label_without_boxes_is_a_window():
    """A span of one microsecond says that there was a look, and nothing seen."""
    labels = make_table([], np.zeros((0, 4)), [], coverage=[(500, 501)])
    plan = plan_windows(labels, WindowRules(), sensor_hw=SENSOR_HW)
    assert (plan.stop_us.tolist(), plan.why.tolist(), plan.box_ptr.tolist()) == ([500], [LABEL], [[0, 0]])


def test_regular_windows_lie_between_labels():
    """Of the 147 us between the first two, three parts; the last gap of 30 us has none."""
    rules = WindowRules(window_us=50, every_us=50)
    plan = plan_windows(labels_at(103, 250, 280), rules, sensor_hw=SENSOR_HW)
    assert plan.stop_us.tolist() == [103, 152, 201, 250, 280]
    assert plan.why.tolist() == [LABEL, REGULAR, REGULAR, LABEL, LABEL]
    assert "has no label: about 50 us from the windows beside it" in plan.explain(152)


def test_boxes_are_cut_down_marked_and_left_out():
    labels = make_table(
        [5] * 5,
        [(-10, 90, 20, 130), (200, 0, 220, 50), (10, 10, 13, 90), (0, 0, 190, 50), (10, 10, 20, 20)],
        [0] * 5,
        track_id=range(5),
    )
    rules = WindowRules(min_side_px=4, min_diagonal_px=15, max_width=0.9)
    plan = plan_windows(labels, rules, sensor_hw=SENSOR_HW)
    assert plan.labels.track_id.tolist() == [0, 2, 3, 4]
    assert plan.labels.xyxy[0].tolist() == [0, 90, 20, 100]
    assert plan.labels.ignore.tolist() == [False, True, True, True]
    assert plan.counts() == {"boxes outside the sensor": 1, "boxes marked as too small or too wide": 3}


@given(
    times=st.lists(st.integers(0, 3_000), max_size=30, unique=True),
    grid=st.none() | st.integers(10, 300),
    every=st.none() | st.integers(10, 300),
    negatives=st.none() | st.integers(10, 300),
)
def test_every_window_and_label_time_has_its_reason(times, grid, every, negatives):
    rules = WindowRules(
        window_us=60, first_us=50, grid_us=grid, every_us=every, negatives_us=negatives, tolerance_us=4
    )
    plan = plan_windows(labels_at(*times, coverage=[(0, 1_500)]), rules, sensor_hw=SENSOR_HW)
    assert (np.diff(plan.stop_us) > 0).all()
    for t in plan.stop_us.tolist():
        assert plan.explain(t).startswith(f"{t} us: kept; window [{t - 60}, {t}) us")
    for t, fate in zip(plan.label_t.tolist(), plan.fate.tolist(), strict=True):
        said = plan.explain(t)
        assert said.startswith(f"{t} us: kept") == (t in plan.stop_us)
        assert ("left out" in said) == (fate != KEPT)
    with_box = plan.stop_us[plan.box_ptr[:, 1] > plan.box_ptr[:, 0]]
    assert with_box.tolist() == plan.label_t[plan.fate == KEPT].tolist()


def test_plans_are_joined_recording_after_recording():
    rules = WindowRules(window_us=10, every_us=50)
    plans = [plan_windows(labels_at(*times), rules, sensor_hw=SENSOR_HW) for times in ((50, 150), (7,))]
    joined = join_plans(plans, rules)
    assert joined.recording.tolist() == [0, 0, 0, 1]
    assert joined.t_end_us.tolist() == [50, 100, 150, 7]
    assert joined.window_ptr.tolist() == [0, 1, 1, 2, 3]
    halved = joined.scaled(SENSOR_HW, (50, 100))
    assert halved.xyxy[0].tolist() == [5, 10, 15, 30]
    assert halved.identity()["sha256"] != joined.identity()["sha256"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"window_us": 0}, "window_us must be at least 1 microsecond, got 0"),
        ({"min_side_px": -1}, "min_side_px must be 0 or more"),
        ({"max_width": 0}, "max_width must be a share above 0"),
        ({"grid_us": 4_000}, "tolerance_us 2000 must be below half of grid_us 4000"),
    ],
)
def test_rules_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        WindowRules(**wrong)
