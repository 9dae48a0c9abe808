"""Working out a conversion before anything is written: frame shape, shards, order, and provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from events.binning.settings import BinSettings
from events.datasets.detection.boxes import WindowBoxes
from events.datasets.images.picture import check_binning
from events.datasets.listing import SPLIT_NAMES, Listing
from events.errors import ConfigError, DatasetError, EventsError
from events.recording import ReadOptions
from events.store.layout import (
    CODECS,
    SOURCES_NAME,
    Codec,
    StoreConfig,
    default_shard_samples,
    differences,
    row_time_range,
    shuffled_order,
    source_identity,
    source_rows,
)
from events.store.samples import open_sample
from events.store.task import JobSource, ShardJob


@dataclass(frozen=True)
class ConvertSettings:
    """What a store is made of, apart from the recordings themselves.

    Attributes:
        binning: How events become frames.
        read: How recordings are read; None takes the data set's own way.
        codec: `fast`: blosc lz4hc, decodes three times faster. `small`: zstd, a third fewer bytes.
        shard_samples: Samples in a shard file; None takes 64 below 4,000 samples, else 256.
        seed: Of the order in which samples are stored.
    """

    binning: BinSettings = field(default_factory=BinSettings)
    read: ReadOptions | None = None
    codec: Codec = "fast"
    shard_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigError(f"codec must be one of {', '.join(CODECS)}, got {self.codec!r}")
        if self.shard_samples is not None and self.shard_samples < 1:
            raise ConfigError(f"shard_samples must be at least 1, got {self.shard_samples}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")


@dataclass(frozen=True)
class Plan:
    """A conversion worked out but not started.

    Attributes:
        listing: The recordings.
        config: What decides the store's content.
        order: Source index of each stored position, shape [N].
        boxes: Of windows, their boxes in pixels of the frames.
    """

    listing: Listing
    config: StoreConfig
    order: np.ndarray
    boxes: WindowBoxes | None = None

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.order) // self.config.shard_samples)

    def job(self, dst: Path, shard: int) -> ShardJob:
        """Return the job that makes a shard of the store at dst."""
        first = shard * self.config.shard_samples
        sources = self.order[first : first + self.config.shard_samples].tolist()
        return ShardJob(
            store=str(dst.absolute()),
            shard=shard,
            slots=self.config.shard_samples,
            dataset=self.listing.dataset,
            root=str(self.listing.root.absolute()),
            sources=tuple(
                JobSource(source, self.listing.samples[source].path, self.listing.samples[source].t_range_us)
                for source in sources
            ),
            read=self.config.read,
            binning=self.config.binning,
            frame_shape=self.config.frame_shape,
            codec=self.config.codec,
        )


def plan_conversion(listing: Listing, settings: ConvertSettings) -> Plan:
    """Work out a conversion: frame shape, shards, order.

    Raises:
        DatasetError: The listing is empty, or none of its recordings says its sensor's size.
    """
    if not listing.samples:
        raise DatasetError(f"{listing.root}: no recordings of {listing.dataset} found; check the folder")
    if listing.windows is not None:
        _check_windows(listing, settings.binning, listing.windows.rules.window_us)
    read = settings.read if settings.read is not None else listing.read_options
    if read.sensor_hw is None and listing.sensor_hw is not None:
        read = replace(read, sensor_hw=listing.sensor_hw)
    if listing.planes:
        sensor_hw = _picture_hw(listing, settings.binning)
    else:
        sensor_hw = read.sensor_hw or _first_sensor(listing, read)
    frame_shape = settings.binning.frame_shape(sensor_hw)
    samples = len(listing.samples)
    boxes = None if listing.windows is None else listing.windows.scaled(sensor_hw, frame_shape[2:])
    config = StoreConfig(
        dataset=listing.dataset,
        binning=settings.binning,
        read=read,
        codec=settings.codec,
        shard_samples=settings.shard_samples or default_shard_samples(samples),
        seed=settings.seed,
        frame_shape=(1, len(listing.planes), *frame_shape[2:]) if listing.planes else frame_shape,
        sensor_hw=sensor_hw,
        class_names=listing.class_names,
        split_rule=listing.split_rule,
        source=source_identity(source_rows(listing.samples)),
        selection=listing.selection,
        planes=listing.planes,
        boxes=None if boxes is None else boxes.identity(),
    )
    # Windows of a recording follow each other, for networks that go through it in order.
    order = shuffled_order(samples, settings.seed) if boxes is None else np.arange(samples, dtype=np.uint32)
    return Plan(listing, config, order, boxes)


def _check_windows(listing: Listing, binning: BinSettings, window_us: int) -> None:
    """Refuse settings that do not make frames of a listing's windows.

    Raises:
        ConfigError: They bin something else, windows of another length, or frames that are made already.
    """
    where = f"{listing.root}: samples of {listing.dataset} are windows before labels"
    if binning.split != "window":
        raise ConfigError(f"{where}, got split {binning.split!r}; use split 'window' or preset 'cube'")
    if binning.window_us != window_us:
        raise ConfigError(f"{where} of {window_us} us, got window_us {binning.window_us}; give both the same")
    if listing.binning is not None and binning != listing.binning:
        raise ConfigError(f"{where} that are frames already; leave out the settings of binning")


def _picture_hw(listing: Listing, binning: BinSettings) -> tuple[int, int]:
    """Return the size of a listing's pictures, or the one they are brought to."""
    check_binning(binning)
    found = listing.sensor_hw or binning.size_hw
    if found is None:
        raise ConfigError(
            f"{listing.root}: pictures in folders differ in size; set one size for all (--size 224)"
        )
    return found


def _first_sensor(listing: Listing, read: ReadOptions) -> tuple[int, int]:
    """Return the sensor size of the first recording that can be opened."""
    reasons = []
    for sample in listing.samples:
        try:
            return open_sample(listing.dataset, listing.root, sample.path, read).sensor_hw
        except (EventsError, OSError) as error:
            reasons.append(str(error))
    raise DatasetError(
        f"{listing.root}: none of {len(reasons)} recordings can be opened; first: {reasons[0]}"
    )


def provenance(plan: Plan, command: str) -> dict[str, Any]:
    """Return the attribute `event_store` of a conversion that is about to start, as plain JSON types."""
    config = plan.config.as_dict()
    source = {"root_name": plan.listing.root.absolute().name, "listing": SOURCES_NAME}
    return config | {
        "complete": False,
        "source": source | config["source"],
        "split_names": list(SPLIT_NAMES),
        "listing_problems": list(plan.listing.problems),
        "config_hash": plan.config.hash(),
        "tool_version": version("spikeline"),
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def changed_settings(
    plan: Plan, attributes: Mapping[str, Any], sources: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return one `field: found ..., expected ...` for each way in which a store differs from a plan.

    Args:
        plan: What is asked for now.
        attributes: The attribute `event_store` of the store.
        sources: Its rows of `sources.jsonl`.
    """
    changed = differences(attributes, plan.config.as_dict())
    if attributes["source"]["sha256"] != plan.config.source["sha256"]:
        changed = [line for line in changed if not line.startswith("source.")]
        changed.append(_changed_source(sources, source_rows(plan.listing.samples)))
    return changed


def _changed_source(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> str:
    """Return the first recording whose size, label or split differs, or that is in one list alone."""
    before = {_row_name(row): row for row in found}
    now = {_row_name(row): row for row in expected}
    for path in sorted(before.keys() | now.keys()):
        if path not in before or path not in now:
            where = ("absent", "present") if path not in before else ("present", "absent")
            return (
                f"recordings: found {len(before)} with {path} {where[0]}, "
                f"expected {len(now)} with it {where[1]}"
            )
        for name in ("size_bytes", "label", "split"):
            if before[path][name] != now[path][name]:
                return f"{path} {name}: found {before[path][name]}, expected {now[path][name]}"
    return "recordings: same files in another order"


def _row_name(row: Mapping[str, Any]) -> str:
    """Return what tells a row from all others: its path, and the part of the file where it is one."""
    part = row_time_range(row)
    return row["path"] if part is None else f"{row['path']} [{part[0]}, {part[1]}) us"
