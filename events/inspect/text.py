"""Values as short text."""

from typing import Any


def class_text(name: str, counts: dict[str, int], counted: str = "samples") -> str:
    """Return the samples, or boxes, of a class by split."""
    parts = ", ".join(f"{count:,} {split}" for split, count in counts.items() if count)
    return f"{name}: {parts or f'no {counted}'}"


def _counted(info: dict[str, Any]) -> str:
    """Return what the numbers of a class count."""
    return "boxes" if info.get("boxes") else "samples"


def settings_text(settings: dict[str, Any] | None) -> str:
    """Return the settings that are given, on one line."""
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    return ", ".join(f"{name} {one_line(value)}" for name, value in given.items())


def origin_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the last rows on a store: how it was made, its classes, and what went wrong."""
    return [
        ("config", str(info["config_hash"])),
        ("made", f"{info['created']} by spikeline {info['tool_version']}: {info['command']}"),
        *(("class", class_text(name, counts, _counted(info))) for name, counts in info["classes"].items()),
        *(("failed", f"{file['path']}: {file['error']}") for file in info["failed_files"]),
        *(("noticed", problem) for problem in info["listing_problems"]),
    ]


def one_line(value: object) -> str:
    """Return a value as text of one line that is not too long for a terminal."""
    text = " ".join(_joined(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _joined(value: object) -> str:
    """Return lists and dictionaries as people write them: sizes as 240 x 320, facts as name and value."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_joined(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        between = " x " if all(isinstance(one, int) for one in value) else "; "
        return between.join(_joined(one) for one in value)
    return str(value)


def said_bytes(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def said_seconds(microseconds: int) -> str:
    """Return microseconds as seconds."""
    return f"{microseconds / 1e6:,.3f} s"
