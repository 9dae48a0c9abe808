"""What is in a store of events, finished or not."""

from collections import Counter
from pathlib import Path
from typing import Any

from events.inspect.text import origin_rows, said_bytes, settings_text
from events.store.event_creation import row_bytes
from events.store.event_reader import EventStore

# Recordings that are named, to show how one is asked for.
NAMED_AT_MOST = 3


def event_store_info(path: Path | str) -> dict[str, Any]:
    """Return what is in a store of events without reading any.

    Returns:
        Plain JSON types: recordings by state, class and split, events, bytes, settings, provenance.

    Raises:
        StoreError: There is no such store at the path, or it is of another schema version.
    """
    store = EventStore(path, allow_partial=True)
    attributes = store.attributes
    failed = [row for row in store.rows if not row["ok"]]
    events = sum(row["events"] for row in store.rows)
    stored = sum(map(row_bytes, store.rows))
    return {
        "kind": "event store",
        "path": str(store.path),
        "complete": attributes["complete"] is True,
        "dataset": attributes["dataset"],
        "recordings": {
            "ok": len(store.rows) - len(failed),
            "failed": len(failed),
            "missing": len(store) - len(store.rows),
        },
        "events": events,
        "event_bytes": stored,
        "bytes_per_event": stored / events if events else None,
        "codec": attributes["codec"],
        "classes": _recordings_by_class(store),
        "split_rule": attributes["split_rule"],
        "selection": attributes["selection"],
        "config_hash": attributes["config_hash"],
        "read": attributes["read"],
        "source": attributes["source"],
        "first_recordings": [source["path"] for source in store.sources[:NAMED_AT_MOST]],
        "listing_problems": attributes.get("listing_problems", []),
        "failed_files": [{"path": row["path"], "error": row["error"]} for row in failed],
        "tool_version": attributes.get("tool_version"),
        "command": attributes.get("command"),
        "created": attributes.get("created"),
    }


def _recordings_by_class(store: EventStore) -> dict[str, dict[str, int]]:
    """Return the recordings that are ok, by class name and split."""
    splits = store.attributes["split_names"]
    cells = Counter(
        (store.sources[row["shard"]]["label"], store.sources[row["shard"]]["split"])
        for row in store.rows
        if row["ok"]
    )
    return {
        name: {split: cells[label, split] for split in splits}
        for label, name in enumerate(store.attributes["class_names"])
    }


def event_store_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what `event_store_info` found as pairs of a name and its text."""
    recordings, source = info["recordings"], info["source"]
    missing = f", {recordings['missing']:,} missing" if recordings["missing"] else ""
    named = ", ".join(f"{number} is {path}" for number, path in enumerate(info["first_recordings"]))
    size = f"{said_bytes(info['event_bytes'])}" if info["event_bytes"] else "unknown size"
    each = f", {info['bytes_per_event']:.2f} bytes each" if info["bytes_per_event"] else ""
    return [
        ("state", "complete" if info["complete"] else "UNFINISHED: run the same conversion again"),
        ("dataset", f"{info['dataset']}, split rule {info['split_rule']}"),
        ("recordings", f"{recordings['ok']:,} ok, {recordings['failed']:,} failed{missing}"),
        ("events", f"{info['events']:,}; {size}{each} (codec {info['codec']})"),
        ("one of them", f"{info['path']}:NUMBER or :NAME; {named}"),
        ("reading", settings_text(info["read"])),
        (
            "source",
            f"{source.get('root_name', 'unknown')}: {source['files']:,} files, {said_bytes(source['bytes'])}",
        ),
        *origin_rows(info),
    ]
