"""Parts of an event store that is being made: shards by recording, and where they go in the flat columns.

    parts/17.t.0    first shard of column t of recording 17, until it becomes t/c.<first shard + 0>

Each recording begins on a shard boundary, behind the recording before it in the listing. So the finished
columns depend on the recordings alone, not on the order in which workers get done. Putting parts in place is
renaming them, which may be broken off anywhere and done again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from events.store.event_layout import EVENT_COLUMNS, FLAT_COLUMNS, MS_INDEX, SHARD, event_shard_name
from events.store.shard import file_crc32c

PARTS = "parts"

Row = Mapping[str, Any]
Places = dict[int, dict[str, int]]


def part_path(store: Path, number: int, column: str, shard: int) -> Path:
    """Return the file of a recording's shard that is not in place yet."""
    return store / PARTS / f"{number}.{column}.{shard}"


def shard_key(column: str) -> str:
    """Return which of the two places of a row holds for a column."""
    return "ms_shard" if column == MS_INDEX else "event_shard"


def shard_count(row: Row, column: str) -> int:
    """Return how many shards a recording takes in a column."""
    return -(-(row.get("ms", 0) if column == MS_INDEX else row["events"]) // SHARD)


def places_of(rows: Mapping[int, Row]) -> tuple[Places, dict[str, int]]:
    """Return where recordings begin, as far as the lengths of all before them are known, and where they end.

    Args:
        rows: Manifest rows by the recording's number.
    """
    places: Places = {}
    event_shard = ms_shard = 0
    while len(places) in rows:
        row = rows[len(places)]
        places[len(places)] = {"event_shard": event_shard, "ms_shard": ms_shard}
        event_shard += shard_count(row, "t")
        ms_shard += shard_count(row, MS_INDEX)
    return places, {"event_shard": event_shard, "ms_shard": ms_shard}


def shard_files(store: Path, row: Row, place: Mapping[str, int] | None) -> Iterator[tuple[Path, Path | None]]:
    """Yield the part and, where it is known, the final place of each shard of a recording."""
    for column in (*EVENT_COLUMNS, MS_INDEX):
        for shard in range(shard_count(row, column)):
            final = None
            if place is not None:
                final = store / column / event_shard_name(place[shard_key(column)] + shard)
            yield part_path(store, row["shard"], column, shard), final


def shard_problems(
    store: Path, row: Row, place: Mapping[str, int] | None, *, with_contents: bool
) -> Iterator[str]:
    """Yield what is wrong with the shard files of a recording: absent, of another length or content."""
    listed = [entry for shards in row.get("files", {}).values() for entry in shards]
    for number, (part, final) in enumerate(shard_files(store, row, place)):
        path = part if final is None or part.exists() else final
        where = path.relative_to(store)
        if not path.is_file():
            yield f"{where}: missing, of recording {row['shard']} ({row['path']})"
        elif listed and path.stat().st_size != listed[number][0]:
            yield f"{where}: {path.stat().st_size} bytes, expected {listed[number][0]}"
        elif listed and with_contents and f"{file_crc32c(path):08x}" != listed[number][1]:
            yield f"{where}: CRC-32C of the file differs from the manifest"


def put_in_place(store: Path, rows: Sequence[Row], places: Places) -> None:
    """Rename the parts of all recordings to where they belong; what is there already stays."""
    for row in rows:
        for part, final in shard_files(store, row, places[row["shard"]]):
            if final is not None and part.exists():
                part.replace(final)


def take_out(store: Path, rows: Sequence[Row], places: Places) -> None:
    """Make parts again of recordings in place, before others change in length and move them."""
    for row in rows:
        for part, final in shard_files(store, row, places.get(row["shard"])):
            if final is not None and final.exists() and not part.exists():
                final.replace(part)


def remove_beyond(store: Path, end: Mapping[str, int]) -> None:
    """Remove shards behind the last recording, left by one that became shorter."""
    for column in FLAT_COLUMNS:
        for file in (store / column).glob("c.*"):
            if int(file.name.removeprefix("c.")) >= end[shard_key(column)]:
                file.unlink()
