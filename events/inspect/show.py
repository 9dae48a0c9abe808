"""What was found as text, one fact a line, whatever it was found in."""

from collections.abc import Callable
from typing import Any

from events.inspect.event_store import event_store_rows
from events.inspect.recording import recording_rows
from events.inspect.store import store_rows

ROWS: dict[str, Callable[[dict[str, Any]], list[tuple[str, str]]]] = {
    "recording": recording_rows,
    "store": store_rows,
    "event store": event_store_rows,
}


def format_info(info: dict[str, Any]) -> str:
    """Return what `recording_info`, `store_info` or `event_store_info` found as text."""
    rows = ROWS[info["kind"]](info)
    width = max(len(name) for name, _ in rows)
    return "\n".join([info["path"], *(f"  {name:<{width}}  {text}" for name, text in rows)])
