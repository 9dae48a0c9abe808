"""Rows of text: every number that an event can hold, as Python writes it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.recording import EVENT_DTYPE
from events.writers.text_rows import LONGEST_ROW, format_rows

EDGES = [0, 1, -1, 2**63 - 1, -(2**63)]
EDGES += [sign * (10**power + step) for power in range(19) for step in (-1, 0, 1) for sign in (1, -1)]
KEPT = 0xAA


def rows(events: np.ndarray) -> bytes:
    """Return what is written, into a buffer that is no longer than it must be."""
    text = np.full(len(events) * LONGEST_ROW + 1, KEPT, np.uint8)
    length = format_rows(np.ascontiguousarray(events).view(np.int64), text[:-1])
    assert text[-1] == KEPT
    return text[:length].tobytes()


def written(events: np.ndarray) -> bytes:
    return "".join(f"{t},{x},{y},{int(p)}\n" for t, x, y, p in events.tolist()).encode()


@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from(EDGES), st.integers(-(2**63), 2**63 - 1)),
            st.integers(0, 65535),
            st.integers(0, 65535),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_rows_are_what_python_writes(found):
    events = np.array(found, EVENT_DTYPE)
    assert rows(events) == written(events)
    assert rows(events[::2]) == written(events[::2])


def test_every_edge_of_a_time_and_every_coordinate():
    events = np.zeros(65536, EVENT_DTYPE)
    events["t"] = np.resize(np.array(EDGES, np.int64), len(events))
    events["x"] = np.arange(65536)
    events["y"] = events["x"][::-1]
    assert rows(events) == written(events)


def test_the_longest_row_fits():
    event = np.array([(-(2**63), 65535, 65535, True)], EVENT_DTYPE)
    assert rows(event) == b"-9223372036854775808,65535,65535,1\n"
    assert len(rows(event)) == LONGEST_ROW


def test_bytes_between_the_fields_are_no_matter():
    """What a reader leaves behind the polarity, or in a polarity that is true, is not part of an event."""
    events = np.zeros(2, EVENT_DTYPE)
    raw = events.view(np.uint8).reshape(2, 16)
    raw[:, 13:] = KEPT
    assert rows(events) == b"0,0,0,0\n" * 2
