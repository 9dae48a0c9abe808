"""The data-set card of a store: README.md with the front matter that data-set hubs read."""

from collections.abc import Mapping
from typing import Any


def card_text(name: str, attributes: Mapping[str, Any]) -> str:
    """Return the card as Markdown, made from the store's attributes alone.

    Args:
        name: Name of the store's folder.
        attributes: The finished attribute `event_store`.
    """
    counts, source = attributes["counts"], attributes["source"]
    samples = counts["ok"] + counts["failed"]
    frames, planes, height, width = attributes["frame_shape"]
    names, boxes = attributes["sensor"].get("planes", []), attributes.get("boxes")
    content = (
        f"{samples:,} pictures of {height} x {width} pixels ({', '.join(names)}) of the data set "
        if names
        else f"{samples:,} {'windows' if boxes else 'samples'} of {frames} frames, {planes} "
        f"{'channels' if planes > 2 else 'polarities'}, {height} x {width} pixels, "
        f"from {counts['events']:,} events of the data set "
    )
    axis = f"plane ({', '.join(names)})" if names else "polarity (0 OFF, 1 ON)"
    if planes > 2 and not names:
        axis = f"channel (OFF in {planes // 2} parts of the frame, then ON)"
    boxes_lines = (
        [f"| boxes | {boxes['boxes']:,} in {boxes['recordings']:,} recordings; {_pairs(boxes['rules'])} |"]
        if boxes
        else []
    )
    lines = [
        "---",
        f"pretty_name: {name}",
        f"size_categories: [{_size_category(samples)}]",
        f"task_categories: [{'object-detection' if boxes else 'image-classification'}]",
        "tags: [event-camera, neuromorphic, spiking-neural-network, zarr]",
        "---",
        "",
        f"# {name}",
        "",
        f"{content}`{attributes['dataset']}` ({source['root_name']}).",
        "",
        "| | |",
        "|---|---|",
        f"| classes | {', '.join(attributes['class_names'])} |",
        f"| splits | {attributes['split_rule']} |",
        *boxes_lines,
        f"| binning | {_pairs(attributes['binning'])} |",
        f"| recordings read with | {_pairs(attributes['read'])} |",
        f"| files not converted | {counts['failed']:,} |",
        f"| saturated pixels | {counts['saturated_pixels']:,} in {counts['saturated_samples']:,} samples |",
        f"| stored | {counts['frame_bytes'] / 1e6:,.1f} MB, codec `{attributes['codec']}` |",
        f"| made by | spikeline {attributes['tool_version']}, {attributes['created']} |",
        f"| settings | `{attributes['config_hash']}` |",
        "",
        f"Axes of `frames`: sample, step, {axis}, row, column (origin top left).",
        *_levels_lines(attributes["binning"]),
        "Column `status`: 0 missing, 1 ok, 2 failed. `source_index` counts lines of `sources.jsonl`.",
        "",
        "```sh",
        attributes["command"],
        "```",
        "",
        "The recordings keep the licence of their publisher; `events datasets` shows it for known sets.",
        "",
    ]
    return "\n".join(lines)


def _levels_lines(binning: Mapping[str, Any]) -> list[str]:
    """Return what a number in frames of levels means; nothing of other frames."""
    levels = binning.get("levels")
    if levels is None:
        return []
    if binning["resize"] != "direct":
        return [f"A pixel holds 255 times the sum of 2^s over {levels} lanes s, each by its share."]
    return [f"A pixel holds 0, or s + 1 for lane s of {levels}, which stands for 2^s."]


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)


def _size_category(samples: int) -> str:
    """Return the size class as data-set hubs name it."""
    for limit, name in (
        (1000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
    ):
        if samples < limit:
            return name
    return "n>1M"
