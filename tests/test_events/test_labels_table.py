"""The label table: its order, its parts, and what it refuses."""

import numpy as np
import pytest

from events.errors import LabelError
from events.labels.table import AUTO, MANUAL, NO_TRACK, make_table

BOX = [1.0, 2.0, 5.0, 8.0]


def four_boxes():
    return make_table(
        [300, 100, 300, 200],
        [[0, 0, 3, 3], [0, 0, 1, 1], [0, 0, 4, 4], [0, 0, 2, 2]],
        [1, 0, 0, 0],
        track_id=[7, 5, 6, 5],
        class_names=["car", "pedestrian"],
        sensor_hw=(240, 304),
        coverage=[[250, 400], [0, 150], [150, 180]],
    )


def test_rows_are_in_order_of_time_then_track():
    table = four_boxes()
    assert table.t.tolist() == [100, 200, 300, 300]
    assert table.track_id.tolist() == [5, 5, 6, 7]
    assert table.xyxy[:, 2].tolist() == [1, 2, 4, 3]
    assert table.class_id.tolist() == [0, 0, 0, 1]
    assert {name: column.dtype.str[1:] for name, column in table.columns().items()} == {
        "t": "i8",
        "xyxy": "f4",
        "class_id": "u2",
        "track_id": "i8",
        "score": "f4",
        "kind": "u1",
        "ignore": "b1",
    }


def test_boxes_without_a_track_keep_the_order_they_came_in():
    table = make_table([5, 5, 5], [[x, 0, 9, 9] for x in (3, 1, 2)], [0, 0, 0])
    assert table.xyxy[:, 0].tolist() == [3, 1, 2]
    assert table.track_id.tolist() == [NO_TRACK] * 3
    assert (table.kind == MANUAL).all()
    assert (table.score == 1).all()
    assert not table.ignore.any()


def test_frames_are_the_distinct_times():
    table = four_boxes()
    assert table.frame_t.tolist() == [100, 200, 300]
    assert table.frame_ptr.tolist() == [0, 1, 2, 4]
    empty = make_table([], [], [])
    assert (len(empty), empty.frame_t.tolist(), empty.frame_ptr.tolist()) == (0, [], [0])


def test_parts_by_time():
    table = four_boxes()
    assert table.at(300).track_id.tolist() == [6, 7]
    assert len(table.at(299)) == 0
    part = table.between(100, 300)
    assert part.t.tolist() == [100, 200]
    assert part.coverage.tolist() == [[100, 180], [250, 300]]
    assert len(table.between(300, 100)) == 0
    assert table.where(table.class_id == 1).track_id.tolist() == [7]
    assert part.class_names == ("car", "pedestrian")
    assert part.sensor_hw == (240, 304)


def test_coverage_is_half_open_and_joined_where_spans_touch():
    table = four_boxes()
    assert table.coverage.tolist() == [[0, 180], [250, 400]]
    times = np.array([-1, 0, 179, 180, 250, 399, 400])
    assert table.covers(times).tolist() == [False, True, True, False, True, True, False]
    assert make_table([1], [BOX], [0]).covers(times).tolist() == [False] * 7


def test_unsigned_times_can_be_subtracted_from():
    table = make_table(np.array([20_000], np.uint64), [BOX], [0])
    assert (table.t - 100_000).tolist() == [-80_000]
    with pytest.raises(LabelError, match="x: t runs from 18446744073709551615 to 184467"):
        make_table(np.array([2**64 - 1], np.uint64), [BOX], [0], where="x")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"xyxy": [[1, 2, np.nan, 4]]}, r"row 0 \(t 9 us, class 0, x0 y0 x1 y1 1 2 nan 4\) has a coordinate"),
        ({"score": [np.inf]}, "no finite number"),
        ({"xyxy": [[5, 2, 4, 4]]}, "1 of 1 boxes cannot be used; .* has a negative width or height"),
        ({"class_id": [2]}, r"unknown class; known are 0 to 1 \(car, pedestrian\)"),
        ({"class_id": [-1]}, "class_id runs from -1 to -1; expected 0 to 65535"),
        ({"class_id": [70_000]}, "class_id runs from 70000"),
        ({"kind": 4}, "has a kind beyond 3"),
        ({"kind": [260]}, "kind runs from 260"),
        ({"t": [np.inf]}, "t holds float64 values"),
        ({"t": [1.5]}, "t holds float64 values that are no whole numbers"),
        ({"track_id": [1, 2]}, "2 values of track_id for 1 times; expected as many"),
        ({"coverage": [[5, 5]]}, r"coverage \[\[5, 5\]\] is no list of separate spans"),
    ],
)
def test_what_no_label_can_be_is_refused_in_one_line(given, message):
    columns = {"t": [9], "xyxy": [BOX], "class_id": [0], "class_names": ["car", "pedestrian"]} | given
    with pytest.raises(LabelError, match=f"^a_bbox.npy: .*{message}") as caught:
        make_table(**columns, where="a_bbox.npy")
    assert "\n" not in str(caught.value)


def test_a_table_put_together_by_hand_is_checked():
    table = four_boxes()
    with pytest.raises(LabelError, match="out of order"):
        table.where(np.array([3, 0])).check()
    columns = table.columns() | {"kind": np.full(4, AUTO)}
    with pytest.raises(LabelError, match=r"column kind is int64 \[4\]; expected uint8 \[4\]"):
        type(table)(**columns).check()
