"""What is found doubtful, whether labels fit a recording, and labels between labels; all counted by hand."""

import numpy as np
import pytest

from events.errors import ConfigError, LabelError
from events.labels.audit import FINDINGS, AuditSettings, audit_labels, find_duplicates, outside_shares
from events.labels.density import count_box_events
from events.labels.fit import check_fit, find_pairs
from events.labels.overlap import box_overlaps
from events.labels.table import AUTO, INTERPOLATED, MANUAL, make_table
from events.labels.tracks import (
    InterpolateSettings,
    ids_are_tracks,
    interpolate_labels,
    link_overlaps,
    link_tracks,
    speeds,
)
from events.recording import EVENT_DTYPE

HW = (60, 100)


def events_at(rows):
    events = np.zeros(len(rows), EVENT_DTYPE)
    events["t"], events["x"], events["y"] = np.array(rows).T
    return events


def test_events_in_boxes_are_those_of_the_window_before_the_label():
    labels = make_table(
        [1_000, 1_000, 1_500], [[10, 10, 12, 12], [0, 0, 100, 60], [10.5, 9.2, 12, 12]], [0, 0, 0]
    )
    events = events_at(
        [
            (899, 10, 10),  # before every window
            (900, 10, 10),
            (999, 11, 11),
            (999, 12, 10),  # the far edge is outside
            (1_000, 11, 11),  # at the label: no longer, but in the next window
            (1_499, 11, 12),
            (1_499, 11, 10),
            (1_500, 11, 10),
        ]
    )
    for cuts in (1, 3, 8):
        chunks = np.array_split(events, cuts)
        counts = count_box_events(chunks, labels, sensor_hw=HW, window_us=100)
        assert counts.tolist() == [2, 3, 1]
    assert count_box_events([events], labels, sensor_hw=HW, window_us=500).tolist() == [3, 4, 2]


def test_events_in_boxes_agree_with_a_plain_count_also_where_the_clock_steps_back():
    rng = np.random.default_rng(0)
    events = events_at(
        np.column_stack([rng.integers(0, 5_000, 900), rng.integers(0, 100, 900), rng.integers(0, 60, 900)])
    )
    corners = rng.uniform([-20, -20], [110, 70], (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 60, (40, 2))], axis=1)
    labels = make_table(rng.choice([500, 2_000, 2_100, 6_000], 40), boxes, np.zeros(40))
    counts = count_box_events(np.array_split(events, 7), labels, sensor_hw=HW, window_us=1_200)
    for i, (x0, y0, x1, y1) in enumerate(labels.xyxy):
        inside = (events["x"] >= x0) & (events["x"] < x1) & (events["y"] >= y0) & (events["y"] < y1)
        when = (events["t"] >= labels.t[i] - 1_200) & (events["t"] < labels.t[i])
        assert counts[i] == (inside & when).sum()
    with pytest.raises(ConfigError, match="window_us must be above 0"):
        count_box_events([events], labels, sensor_hw=HW, window_us=0)


def test_overlaps_counted_by_hand():
    a = np.array([[0, 0, 4, 4], [0, 0, 0, 5], [10, 10, 11, 11]], np.float32)
    b = np.array([[2, 2, 6, 6], [0, 0, 4, 4], [5, 0, 9, 4]], np.float32)
    expected = [[4 / 28, 1, 0], [0, 0, 0], [0, 0, 0]]  # boxes apart along both axes share nothing
    np.testing.assert_allclose(box_overlaps(a, b), expected)


def test_duplicates_are_of_one_class_and_time_and_the_first_is_none():
    box = [0, 0, 10, 10]
    labels = make_table(
        [1, 1, 1, 1, 2, 2, 2],
        [box, [0, 0, 10, 9.5], box, [5, 0, 15, 10], box, [3, 3, 3, 3], [3, 3, 3, 3]],
        [0, 0, 1, 0, 0, 0, 0],
    )
    assert find_duplicates(labels, overlap=0.9).tolist() == [0, 1, 0, 0, 0, 0, 1]
    assert find_duplicates(labels, overlap=0.96).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_shares_outside_the_sensor():
    boxes = np.array(
        [[-5, 0, 5, 10], [90, 50, 110, 70], [0, 0, 100, 60], [200, 0, 210, 9], [5, 5, 5, 9], [-1, 0, -1, 9]]
    )
    assert outside_shares(boxes, HW).tolist() == [0.5, 0.75, 0, 1, 0, 1]


def test_an_audit_finds_each_kind_and_nothing_else():
    labels = make_table(
        [0, 100_000, 200_000, 200_000, 0, 100_000, 200_000],
        [
            [10, 10, 20, 20],
            [12, 10, 22, 20],  # 2 px in 0.1 s: 1.4 diagonals a second
            [60, 10, 70, 20],  # 48 px in 0.1 s
            [60, 10, 70, 20],  # the same box again, of another track
            [0, 0, 95, 30],  # 95 of 100 px
            [90, 40, 118, 50],  # of 28 px, 18 outside
            [30, 30, 30, 40],  # no width
        ],
        [0, 0, 0, 0, 0, 0, 1],
        track_id=[1, 1, 1, 2, 3, 3, 3],
        class_names=["car", "pedestrian"],
        sensor_hw=HW,
    )
    # In the order of the table: time, then track.
    events = np.array([50, 3, 50, 0, 50, 50, 50])
    audit = audit_labels(labels, events=events)
    rows = audit.as_dict()["rows"]
    assert [tuple(pair) for pair in zip(labels.t.tolist(), labels.track_id.tolist(), strict=True)] == [
        (0, 1),
        (0, 3),
        (100_000, 1),
        (100_000, 3),
        (200_000, 1),
        (200_000, 2),
        (200_000, 3),
    ]
    assert rows == {
        "empty": [3],
        "faint": [1],
        "duplicate": [5],
        "jump": [4, 6],  # row 6: 75 px in 0.1 s, 2.5 diagonals of 30 px
        "class_change": [6],
        "frame_wide": [1],
        "off_screen": [3],
        "flat": [6],
    }
    assert set(audit.found) == set(FINDINGS)
    facts = audit.as_dict()
    assert (facts["boxes"], facts["labelled_times"], facts["tracks"], facts["doubtful"]) == (7, 3, 3, 5)
    assert facts["classes"] == {"car": 6, "pedestrian": 1}
    assert facts["label_rate_hz"] == 10
    assert facts["off_screen_share"] == pytest.approx(180 / (4 * 100 + 95 * 30 + 280))


def test_without_events_sensor_or_tracks_less_is_said():
    audit = audit_labels(make_table([1, 2], [[0, 0, 5, 5], [0, 0, 5, 5]], [0, 0], track_id=[1, 2]))
    assert list(audit.found) == ["duplicate", "flat"]
    assert audit.off_screen_share is None
    empty = audit_labels(make_table([], [], [], sensor_hw=HW), events=np.zeros(0, np.int64))
    assert empty.as_dict()["doubtful"] == 0
    with pytest.raises(ConfigError, match="overlap must be above 0 and at most 1, got 2"):
        AuditSettings(overlap=2)


LABELS = make_table([100_000, 900_000], [[90, 40, 98, 50], [0, 0, 9, 9]], [0, 0], sensor_hw=HW)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"span_us": (0, 799_999)},
            "1 of 2 boxes are outside its recording's time; labels are from 100000 to ",
        ),
        ({"span_us": (10**15, 10**15 + 10**6)}, "2 of 2 boxes are outside .* give its clock's offset"),
        ({"sensor_hw": (60, 101)}, "labels are for a sensor of 60x100 .* its recording has 60x101"),
    ],
)
def test_labels_of_another_recording_are_refused(given, message):
    with pytest.raises(LabelError, match=f"^a_bbox.npy: {message}") as caught:
        check_fit(LABELS, where="a_bbox.npy", **given)
    assert "\n" not in str(caught.value)
    check_fit(LABELS, where="a", span_us=(0, 800_000), sensor_hw=HW)
    check_fit(make_table([], [], []), where="a", span_us=(0, 1), sensor_hw=HW)


def test_boxes_that_lie_outside_the_sensor_are_of_another_one():
    labels = make_table([1, 2, 3], [[640, 300, 700, 400], [310, 10, 350, 40], [0, 0, 9, 9]], [0, 0, 0])
    with pytest.raises(LabelError, match="2 of 3 boxes lie outside its recording's sensor of 240x304"):
        check_fit(labels, where="a", sensor_hw=(240, 304))
    check_fit(labels, where="a", sensor_hw=(720, 1280))


def test_pairs_and_missing_halves(tmp_path):
    for name in (
        "train/a_td.dat",
        "train/a_bbox.npy",
        "b_td.h5",
        "c_bbox.npy",
        "d_td.dat",
        "d_td.h5",
        "d_bbox.npy",
        "x.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_pairs(tmp_path)
    assert [[str(path.relative_to(tmp_path)) for path in pair] for pair in found.pairs] == [
        ["d_td.dat", "d_bbox.npy"],
        ["train/a_td.dat", "train/a_bbox.npy"],
    ]
    assert found.problems == [
        "b_td.h5: has no b_bbox.npy beside it",
        "c_bbox.npy: has no recording c_td.dat beside it",
    ]


def test_ids_that_never_come_again_are_no_tracks():
    boxes = [[0, 0, 5, 5]] * 4
    assert ids_are_tracks(make_table([1, 2, 3, 4], boxes, [0] * 4, track_id=[7, 7, 8, 8]))
    assert not ids_are_tracks(make_table([1, 2, 3, 4], boxes, [0] * 4, track_id=[3765, 3766, 3767, 3768]))
    assert not ids_are_tracks(make_table([1, 2, 2, 4], boxes, [0] * 4, track_id=[7, 7, 7, 7]))
    assert not ids_are_tracks(make_table([1, 2, 3, 4], boxes, [0] * 4))


def test_links_by_id_and_by_overlap():
    labels = make_table(
        [0, 0, 10, 10, 30],
        [[0, 0, 10, 10], [40, 0, 50, 10], [42, 0, 52, 10], [2, 0, 12, 10], [3, 0, 13, 10]],
        [0, 0, 0, 0, 0],
        track_id=[1, 2, 2, 1, 1],
    )
    # Rows by time, then track: 0 and 2 and 4 are the left object, 1 and 3 the right one.
    assert sorted(link_tracks(labels).tolist()) == [[0, 2], [1, 3], [2, 4]]
    links = link_overlaps(labels, min_overlap=0.3, max_gap_us=100)
    assert sorted(links.tolist()) == [[0, 2], [1, 3], [2, 4]]
    assert sorted(link_overlaps(labels, min_overlap=0.3, max_gap_us=15).tolist()) == [[0, 2], [1, 3]]
    assert link_overlaps(labels, min_overlap=0.85, max_gap_us=15).tolist() == []
    np.testing.assert_allclose(speeds(labels, np.array([[0, 2]])), 2 / np.hypot(10, 10) / 10e-6)


def test_overlap_pairs_all_boxes_where_the_nearest_would_leave_one_out():
    labels = make_table(
        [0, 0, 10, 10], [[0, 0, 10, 10], [4, 0, 14, 10], [3, 0, 13, 10], [7, 0, 17, 10]], [0] * 4
    )
    assert sorted(link_overlaps(labels, min_overlap=0.3, max_gap_us=100).tolist()) == [[0, 2], [1, 3]]


def test_labels_between_two_boxes():
    labels = make_table(
        [100_000, 300_000],
        [[0, 0, 10, 10], [20, 10, 60, 20]],
        [1, 1],
        track_id=[5, 5],
        score=[0.5, 0.9],
        class_names=["car", "pedestrian"],
        sensor_hw=HW,
        coverage=[[0, 400_000]],
    )
    more = interpolate_labels(labels, InterpolateSettings(every_us=100_000, max_speed=100))
    assert more.t.tolist() == [100_000, 200_000, 300_000]
    assert more.kind.tolist() == [MANUAL, INTERPOLATED, MANUAL]
    # Centre from (5, 5) to (40, 15); width from 10 to 40: the geometric mean is 20.
    np.testing.assert_allclose(more.xyxy[1], [22.5 - 10, 10 - 5, 22.5 + 10, 10 + 5], rtol=1e-6)
    assert (more.class_id[1], more.track_id[1], more.score[1]) == (1, 5, 0.5)
    assert (more.class_names, more.sensor_hw) == (("car", "pedestrian"), HW)
    assert more.coverage.tolist() == [[0, 400_000]]
    np.testing.assert_array_equal(more.where(more.kind == MANUAL).xyxy, labels.xyxy)
    # Again, nothing is put between rows that were put in.
    again = interpolate_labels(more, InterpolateSettings(every_us=100_000, max_speed=100))
    assert again.kind.tolist().count(MANUAL) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"t": [0, 1_000_001]},  # too long apart
        {"xyxy": [[0, 0, 10, 10], [80, 0, 90, 10]], "t": [0, 400_000]},  # 14 diagonals a second
        {"class_id": [0, 1]},
        {"kind": [MANUAL, INTERPOLATED]},
        {"xyxy": [[0, 0, 10, 10], [0, 0, 0, 10]]},
        {"track_id": [1, 2], "xyxy": [[0, 0, 10, 10], [30, 0, 40, 10]]},
    ],
)
def test_boxes_that_are_not_joined(changed):
    given = {
        "t": [0, 500_000],
        "xyxy": [[0, 0, 10, 10], [2, 0, 12, 10]],
        "class_id": [0, 0],
        "track_id": [1, 1],
    }
    assert len(interpolate_labels(make_table(**given))) == 2 + 9  # every 50 ms between 0 and 500
    assert len(interpolate_labels(make_table(**given | changed))) == 2


def test_interpolated_rows_keep_off_labelled_times_and_go_by_overlap_where_ids_are_no_tracks():
    labels = make_table(
        [0, 100_000, 200_000, 100_000],
        [[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 40, 60, 50]],
        [0, 0, 0, 0],
        track_id=[10, 11, 12, 13],
        kind=[AUTO, AUTO, AUTO, AUTO],
    )
    more = interpolate_labels(labels, InterpolateSettings(every_us=50_000))
    added = more.where(more.kind == INTERPOLATED)
    assert added.t.tolist() == [50_000, 150_000]
    np.testing.assert_allclose(added.xyxy, [[1, 0, 11, 10], [3, 0, 13, 10]], atol=1e-5)
    assert len(interpolate_labels(labels, InterpolateSettings(every_us=50_000, association="tracks"))) == 4
    assert len(interpolate_labels(make_table([], [], []))) == 0
    with pytest.raises(ConfigError, match="association 'x' is unknown"):
        InterpolateSettings(association="x")
    with pytest.raises(ConfigError, match="every_us must be above 0, got 0"):
        InterpolateSettings(every_us=0)
