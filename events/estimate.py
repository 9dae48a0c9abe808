"""What a conversion will take, measured on a few of its recordings."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from events.datasets.listing import Listing, Sample
from events.errors import DatasetError, EventsError
from events.recording import ReadOptions
from events.store.event_columns import EventPacker
from events.store.event_layout import CHUNK, column_types
from events.store.layout import Codec
from events.store.plan import Plan
from events.store.samples import open_sample
from events.store.shard import encode_sample
from events.store.task import bin_recording

# Recordings tried for the estimate of a dry run.
ESTIMATE_FILES = 3


@dataclass(frozen=True)
class Estimate:
    """What a conversion will take, measured on a few recordings.

    Attributes:
        files, shards: Recordings and shard files.
        source_bytes: Bytes of the recordings.
        store_bytes: Expected bytes of the store.
        seconds: Expected seconds with the given workers.
        tried: Recordings it was measured on.
    """

    files: int
    shards: int
    source_bytes: int
    store_bytes: int
    seconds: float
    tried: int


def estimate(plan: Plan, *, workers: int = 1) -> Estimate:
    """Convert a few recordings to frames in memory and extrapolate; nothing is written.

    Raises:
        DatasetError: None of the recordings tried can be read.
    """

    def convert_one(sample: Sample) -> int:
        recording = open_sample(plan.listing.dataset, plan.listing.root, sample.path, plan.config.read)
        frames = bin_recording(recording, plan.config.binning, t_range_us=sample.t_range_us)
        return len(encode_sample(frames.frames, plan.config.codec))

    return _extrapolate(plan.listing, convert_one, shards=plan.shards, workers=workers)


def estimate_events(listing: Listing, read: ReadOptions, codec: Codec, *, workers: int = 1) -> Estimate:
    """Encode the events of a few recordings in memory and extrapolate; nothing is written.

    Raises:
        DatasetError: None of the recordings tried can be read, or there are none.
    """

    def convert_one(sample: Sample) -> int:
        recording = open_sample(listing.dataset, listing.root, sample.path, read)
        start, stop = sample.t_range_us or (None, None)
        packer = EventPacker(column_types(recording.sensor_hw), codec)
        return sum(
            len(encoded or b"")
            for chunk in recording.chunks(count=CHUNK, start_us=start, stop_us=stop)
            for encoded in packer.encode(chunk).values()
        )

    return _extrapolate(listing, convert_one, shards=len(listing.samples), workers=workers)


def _extrapolate(
    listing: Listing, convert_one: Callable[[Sample], int], *, shards: int, workers: int
) -> Estimate:
    """Measure bytes and time of a few recordings, spread over the listing."""
    samples = listing.samples
    places = sorted({place * (len(samples) - 1) // (ESTIMATE_FILES - 1) for place in range(ESTIMATE_FILES)})
    sizes, seconds, reasons = [], [], []
    for place in places if samples else []:
        try:
            convert_one(samples[place])
            # Timed the second time: the first one may have compiled the kernels.
            started = time.perf_counter()
            sizes.append(convert_one(samples[place]))
            seconds.append(time.perf_counter() - started)
        except (EventsError, OSError) as error:
            reasons.append(str(error))
    if not sizes:
        first = f"; {reasons[0]}" if reasons else ""
        raise DatasetError(f"{listing.root}: none of {len(reasons)} recordings tried can be read{first}")
    return Estimate(
        files=len(samples),
        shards=shards,
        source_bytes=sum(sample.size_bytes for sample in samples),
        store_bytes=round(len(samples) * sum(sizes) / len(sizes)),
        seconds=len(samples) * sum(seconds) / len(seconds) / max(workers, 1),
        tried=len(sizes),
    )
