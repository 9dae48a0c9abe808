"""What is in a store of frames, finished or not."""

from pathlib import Path
from typing import Any

import numpy as np

from events.binning.levels import sub_frames_of
from events.datasets.listing import SPLIT_NAMES
from events.inspect.boxes import boxes_by_class, boxes_info, boxes_rows
from events.inspect.text import origin_rows, said_bytes, settings_text
from events.store.detection import has_boxes
from events.store.layout import STATUS_OK, shard_name, stored_binning
from events.store.reader import FrameStore, open_store

# Missing shards that are named; all are counted.
NAMED_AT_MOST = 10


def store_info(path: Path | str) -> dict[str, Any]:
    """Return what is in a store, finished or not, without reading its frames.

    Returns:
        Plain JSON types: shape, dtype, codec, bytes and compression ratio, shards present and missing,
        samples by class and split, events, saturation, `config_hash`, settings, provenance.

    Raises:
        StoreError: There is no store at the path, or it is of another schema version.
    """
    store = open_store(path, allow_partial=True)
    attributes = store.attributes
    shards = _shards(store)
    ok = int(np.count_nonzero(store.status == STATUS_OK))
    raw_bytes = ok * int(np.prod(store.shape[1:])) * store.dtype.itemsize
    return {
        "kind": "store",
        "path": str(store.path),
        "complete": attributes.get("complete") is True,
        "dataset": attributes.get("dataset"),
        "shape": list(store.shape),
        "dtype": store.dtype.name,
        "sensor": {"height": store.sensor_hw[0], "width": store.sensor_hw[1]},
        "planes": list(store.planes),
        "codec": attributes.get("codec"),
        "shard_samples": attributes.get("shard_samples"),
        **shards,
        "raw_bytes": raw_bytes,
        "ratio": raw_bytes / shards["frame_bytes"] if shards["frame_bytes"] else None,
        "bytes_per_sample": shards["frame_bytes"] / ok if ok else None,
        "samples": store.counts(),
        "classes": boxes_by_class(store) if has_boxes(store) else _samples_by_class(store),
        "boxes": boxes_info(store) if has_boxes(store) else None,
        "split_rule": attributes.get("split_rule"),
        "events": int(store.n_events.sum(dtype=np.int64)),
        "saturated_pixels": int(store.n_saturated.sum(dtype=np.int64)),
        "saturated_samples": int(np.count_nonzero(store.n_saturated)),
        "config_hash": store.config_hash,
        "binning": attributes.get("binning"),
        "read": attributes.get("read"),
        "source": attributes.get("source"),
        "listing_problems": attributes.get("listing_problems", []),
        "failed_files": attributes.get("failed_files", []),
        "tool_version": attributes.get("tool_version"),
        "command": attributes.get("command"),
        "created": attributes.get("created"),
    }


def _shards(store: FrameStore) -> dict[str, Any]:
    """Return how many shard files there should be, are, and lack, and the bytes of those there."""
    per_shard = int(store.attributes["shard_samples"])
    files = [store.path / "frames" / shard_name(i) for i in range(-(-store.shape[0] // per_shard))]
    sizes = {i: file.stat().st_size for i, file in enumerate(files) if file.is_file()}
    missing = [i for i in range(len(files)) if i not in sizes]
    return {
        "shards": len(files),
        "shards_present": len(sizes),
        "shards_missing": len(missing),
        "first_missing_shards": missing[:NAMED_AT_MOST],
        "frame_bytes": sum(sizes.values()),
    }


def _samples_by_class(store: FrameStore) -> dict[str, dict[str, int]]:
    """Return the samples that are ok, by class name and split."""
    ok = store.status == STATUS_OK
    cells = store.label[ok].astype(np.int64) * len(SPLIT_NAMES) + store.split[ok]
    counts = np.bincount(cells, minlength=len(store.class_names) * len(SPLIT_NAMES))
    table = counts.reshape(-1, len(SPLIT_NAMES)).tolist()
    return {
        name: dict(zip(SPLIT_NAMES, row, strict=True))
        for name, row in zip(store.class_names, table, strict=False)
    }


def store_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what `store_info` found as pairs of a name and its text."""
    samples, source = info["samples"], info["source"] or {}
    missing = f", {samples['missing']:,} missing" if samples["missing"] else ""
    return [
        ("state", "complete" if info["complete"] else "UNFINISHED: run the same conversion again"),
        ("dataset", f"{info['dataset']}, split rule {info['split_rule']}"),
        ("samples", f"{samples['ok']:,} ok, {samples['failed']:,} failed{missing}"),
        ("frames", f"{' x '.join(map(str, info['shape']))} (N x T x P x H x W), {info['dtype']}"),
        *(boxes_rows(info["boxes"]) if info["boxes"] else []),
        ("disk", _disk_text(info)),
        ("shards", _shards_text(info)),
        *_content_rows(info),
        (
            "source",
            f"{source.get('root_name')}: {source.get('files', 0):,} files, "
            f"{said_bytes(source.get('bytes', 0))}",
        ),
        *origin_rows(info),
    ]


def _content_rows(info: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the frames hold: pictures, or events binned and read in some way."""
    if info["planes"]:
        return [("pictures", f"planes {', '.join(info['planes'])}; one step each")]
    saturated = f"{info['saturated_pixels']:,} in {info['saturated_samples']:,} samples"
    return [
        ("events", f"{info['events']:,}; saturated pixels {saturated}"),
        *_levels_rows(info["binning"]),
        ("binning", settings_text(info["binning"])),
        ("reading", settings_text(info["read"])),
    ]


def _levels_rows(binning: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a number in frames of levels means; nothing of other frames."""
    levels = binning.get("levels")
    if levels is None:
        return []
    group, binary = sub_frames_of(levels), stored_binning(binning)
    made = f"{binary.pieces} binary sub-frames, {group} a frame"
    if binary.resizes_lanes:
        return [("levels", f"{levels} lanes of {made}, resized ({binary.resize}): 255 stands for 1")]
    lanes = ", ".join(f"{s + 1} for {1 << s}" for s in range(levels))
    return [("levels", f"{levels} lanes of {made}; stored is {lanes}, 0 for nothing")]


def _disk_text(info: dict[str, Any]) -> str:
    if not info["frame_bytes"]:
        return "nothing yet"
    return (
        f"{said_bytes(info['frame_bytes'])}, {said_bytes(info['bytes_per_sample'] or 0)} a sample, "
        f"{info['ratio']:.1f} times smaller than plain (codec {info['codec']})"
    )


def _shards_text(info: dict[str, Any]) -> str:
    text = f"{info['shards_present']} of {info['shards']}, {info['shard_samples']} samples each"
    if info["first_missing_shards"]:
        text += f"; missing {', '.join(map(str, info['first_missing_shards']))}"
        text += " and more" if info["shards_missing"] > len(info["first_missing_shards"]) else ""
    return text
