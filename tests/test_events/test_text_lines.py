"""Lines of text into numbers: exact, whatever the separators, and what is no event named."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import DamagedRecording
from events.readers.registry import open_recording
from events.readers.text_lines import LINE, NO_POLARITY, POLARITY, TIME, X, Y, parse_lines
from events.recording import ReadOptions

ORDER = [TIME, X, Y, POLARITY]


def parse(lines: bytes, *, separator=",", fields=ORDER, unit=0, strict=False):
    """Return the rows, shape [n, 5], the damage, and the first byte not used."""
    raw = np.frombuffer(lines, np.uint8).copy()
    columns, damage = np.full((5, 20), -99), np.empty(3, np.int64)
    used, rows = parse_lines(
        raw, 0, len(raw), ord(separator), np.array(fields), unit, strict, columns, damage
    )
    return columns[:, :rows].T.tolist(), damage.tolist(), used


def rounded(text: str, unit: int) -> int:
    with localcontext() as context:
        context.prec = 400
        scaled = Decimal(text) * Decimal(10) ** unit
        return int(scaled.to_integral_value(ROUND_HALF_EVEN))


numbers = st.one_of(
    st.integers(-(2**61), 2**61).map(str),
    st.decimals(-(10**11), 10**11, allow_nan=False).map("{:f}".format),
    st.floats(-(10**11), 10**11).map("{:e}".format),
    st.integers(0, 10**9).map(lambda value: f"{value}.5"),
    st.integers(0, 999).map(lambda value: f"+0.{value:03}5"),
    st.integers(0, 10**40).map(lambda value: f".{value}"),
)


@settings(max_examples=50, deadline=None)
@given(text=numbers, unit=st.sampled_from([0, 3, 6]), separator=st.sampled_from(",; \t"))
def test_times_are_rounded_once_from_their_digits(text, unit, separator):
    expected = rounded(text, unit)
    line = separator.join([text, "1", "2", "0"]) + "\n"
    rows, damage, _ = parse(line.encode(), separator=separator, unit=unit)
    if abs(expected) < 2**62:
        assert rows == [[expected, 1, 2, 0, 0]]
    else:
        assert damage[0] == 1


@given(text=numbers)
def test_pixels_are_whole_numbers_or_none(text):
    rows, _, _ = parse(f"5,{text},2,1\n".encode())
    whole = Decimal(text) == int(Decimal(text))
    assert rows[0][POLARITY] == (1 if whole else NO_POLARITY)
    if whole:
        assert rows[0][X] == int(Decimal(text))


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0.1234567", 6, 123457),
        ("0.0000005", 6, 0),
        ("0.0000015", 6, 2),
        ("1468941032.229165", 6, 1468941032229165),
        ("9007199254740993", 0, 9007199254740993),  # no float has this value
        ("1468941032.22916550000000000000000000001", 6, 1468941032229166),
        ("1e-6", 6, 1),
        ("-2.5e-6", 6, -2),
    ],
)
def test_times_counted_by_hand(text, unit, expected):
    assert parse(f"{text},0,0,0\n".encode(), unit=unit)[0][0][TIME] == expected


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        (b"7,3,4,1\n", ","),
        (b"7,3,4,1\r\n", ","),
        (b" 7 , 3,\t4 ,True \r\n", ","),
        (b"7;3;4;TRUE;left over\n", ";"),
        (b"  7  3 \t 4 1  \n", " "),
        (b"7\t3\t4\t1 what else\n", "\t"),
        (b"7.0,3.0,4e0,+1\n", ","),
    ],
)
def test_lines_that_are_the_same_event(line, separator):
    assert parse(line, separator=separator)[0] == [[7, 3, 4, 1, 0]]


def test_columns_in_any_order_and_some_not_wanted():
    fields = [LINE, POLARITY, Y, LINE, X, TIME]
    assert parse(b"name,1,4,,3,7\n", fields=fields)[0] == [[7, 3, 4, 1, 0]]


@pytest.mark.parametrize("line", [b"\n", b"  \r\n", b"# t x y p\n", b" % 1,2,3,0\n"])
def test_blank_lines_and_comments_are_no_damage(line):
    assert parse(line + b"1,2,3,0\n")[:2] == ([[1, 2, 3, 0, len(line)]], [0, 0, -1])


@pytest.mark.parametrize(
    "line",
    [b"1,2,3\n", b"1,2,,0\n", b"1,2,3,tru\n", b"1,x,3,0\n", b"1,2,3,0x\n", b"nan,2,3,0\n", b"1e,2,3,0\n"],
)
def test_lines_that_are_no_event(line):
    good = b"1,2,3,0\n"
    assert parse(good + line + line + good)[:2] == (
        [[1, 2, 3, 0, 0], [1, 2, 3, 0, 8 + 2 * len(line)]],
        [2, 2 * len(line), 8],
    )
    assert parse(good + line + good, strict=True) == ([[1, 2, 3, 0, 0]], [1, len(line), 8], 8)


def test_a_line_without_an_end_is_left():
    assert parse(b"1,2,3,0\n4,5,6")[2] == 8
    assert parse(b"4,5,6,1")[2] == 0


@given(data=st.binary(max_size=60).map(lambda data: data + b"\n1,2,3,0\n"))
def test_any_bytes_stay_inside(data):
    rows, damage, used = parse(data)
    assert used == len(data) or len(rows) == 20
    assert damage[1] <= len(data)


def test_strict_delivers_the_lines_before_the_damage(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"t,x,y,p\n" + b"1,2,3,0\n" * 5 + b"oops\n" + b"1,2,3,0\n")
    recording = open_recording(tmp_path / "a.csv", ReadOptions(damage="strict"))
    chunks = recording.chunks()
    assert len(next(chunks)) == 5
    with pytest.raises(DamagedRecording, match=r"byte 48: line 'oops' is no event; read with damage 'skip'"):
        next(chunks)


def test_a_line_longer_than_a_read(tmp_path):
    """Lines of any length, here one of 3 MB between two events, which is no event."""
    (tmp_path / "a.csv").write_bytes(b"t,x,y,p\n1,2,3,0\n" + b"z" * 3_000_000 + b"\n4,5,6,1\n")
    recording = open_recording(tmp_path / "a.csv")
    assert recording.read()["t"].tolist() == [1, 4]
    assert (recording.report.bytes_skipped, recording.report.first_damage_byte) == (3_000_001, 16)


digits = st.text("0123456789", min_size=1, max_size=20)
oddities = st.sampled_from(["", " ", "-", ".5", "e1", "x", "\r", ",", "\xff", "\n", "1,2,3,4\n"])


@given(
    lines=st.lists(st.tuples(digits, digits, digits, digits), min_size=1, max_size=6),
    place=st.integers(0, 100),
    oddity=oddities,
    behind=st.sampled_from([b"1" * 80, b",0\n" * 30, b"\xff" * 80]),
    fields=st.permutations(ORDER),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_room_behind_the_lines_changes_nothing(lines, place, oddity, behind, fields, line_end):
    """Where a block may be read from the start of a line, the line is read at once: to the same numbers."""
    text = "".join(",".join(line) + line_end for line in lines).encode("latin-1")
    text = text[:place] + oddity.encode("latin-1") + text[place:]
    raw = np.frombuffer(text + behind, np.uint8).copy()
    results = []
    for buffer in (raw, raw[: len(text)].copy()):
        columns, damage = np.full((5, 20), -99), np.empty(3, np.int64)
        used, rows = parse_lines(buffer, 0, len(text), ord(","), np.array(fields), 0, False, columns, damage)
        results.append((columns[:, :rows].tolist(), damage.tolist(), used))
    assert results[0] == results[1]


@given(numbers=st.lists(st.integers(0, 10**18 - 1), min_size=4, max_size=4), zeros=st.integers(0, 5))
def test_whole_numbers_of_any_length_are_exact(numbers, zeros):
    line = ",".join("0" * zeros + str(number) for number in numbers) + "\n"
    rows, _, _ = parse((line + "1,2,3,0\n" * 9).encode())
    assert rows[:2] == [[*numbers, 0], [1, 2, 3, 0, len(line)]]


def test_a_return_inside_a_line_is_no_line_end():
    good = b"1,2,3,0\n"
    assert parse(good + b"1,2,3,0\r4,5,6,1\n" + good)[1] == [1, 16, 8]
    assert parse(b"1,2,3,0\r\n" * 20)[:2] == ([[1, 2, 3, 0, 9 * row] for row in range(20)], [0, 0, -1])
    assert parse(b"1,2,3,0\r4\n" * 9 + b"1,2,3,0\r\n")[1] == [9, 90, 0]
