"""Parts of an event store that is being made: shards by recording, and where they go in the flat columns.

    parts/17.dt.0    first shard of column dt of recording 17, until it becomes dt/c.<first shard + 0>

Each recording begins on a shard boundary, behind the recording before it in the listing. So the finished
columns depend on the recordings alone, not on the order in which workers get done. Putting parts in place is
renaming them, which may be broken off anywhere and done again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from events.store.event_layout import FLAT_COLUMNS, MS_INDEX, SHARD, event_shard_name
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


def event_shards(row: Row) -> int:
    """Return how many shards a recording takes in a column of events."""
    return -(-row["events"] // SHARD)


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
        event_shard += event_shards(row)
        ms_shard += -(-row.get("ms", 0) // SHARD)
    return places, {"event_shard": event_shard, "ms_shard": ms_shard}


class ShardFile(NamedTuple):
    """One shard of a recording.

    Attributes:
        part: Its file until it is in place.
        final: Its place in the column; None where that is not known yet.
        size: Its length in bytes.
        crc32c: CRC-32C of its content as hex digits.
    """

    part: Path
    final: Path | None
    size: int
    crc32c: str


def shard_files(store: Path, row: Row, place: Mapping[str, int] | None) -> Iterator[ShardFile]:
    """Yield the shards of a recording that its row lists."""
    for column, shards in row.get("files", {}).items():
        for shard, entry in enumerate(shards):
            if entry is not None:
                final = None
                if place is not None:
                    final = store / column / event_shard_name(place[shard_key(column)] + shard)
                yield ShardFile(part_path(store, row["shard"], column, shard), final, *entry)


def shard_problems(
    store: Path, row: Row, place: Mapping[str, int] | None, *, with_contents: bool
) -> Iterator[str]:
    """Yield what is wrong with the shard files of a recording: absent, of another length or content."""
    for part, final, size, crc32c in shard_files(store, row, place):
        path = part if final is None or part.exists() else final
        where = path.relative_to(store)
        if not path.is_file():
            yield f"{where}: missing, of recording {row['shard']} ({row['path']})"
        elif path.stat().st_size != size:
            yield f"{where}: {path.stat().st_size} bytes, expected {size}"
        elif with_contents and f"{file_crc32c(path):08x}" != crc32c:
            yield f"{where}: CRC-32C of the file differs from the manifest"


def put_in_place(store: Path, rows: Sequence[Row], places: Places) -> None:
    """Rename the parts of all recordings to where they belong; what is there already stays."""
    for row in rows:
        for file in shard_files(store, row, places[row["shard"]]):
            if file.final is not None and file.part.exists():
                file.part.replace(file.final)


def take_out(store: Path, rows: Sequence[Row], places: Places) -> None:
    """Make parts again of recordings in place, before others change in length and move them."""
    for row in rows:
        for file in shard_files(store, row, places.get(row["shard"])):
            if file.final is not None and file.final.exists() and not file.part.exists():
                file.final.replace(file.part)


def remove_others(store: Path, rows: Sequence[Row], places: Places) -> None:
    """Remove shards that no row lists, left by a recording that was longer or needed more columns."""
    listed = {file.final for row in rows for file in shard_files(store, row, places[row["shard"]])}
    for column in FLAT_COLUMNS:
        for path in (store / column).glob("c.*"):
            if path not in listed:
                path.unlink()
