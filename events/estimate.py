"""What a conversion will take, measured on a few of its recordings."""

import time
from dataclasses import dataclass

from events.errors import DatasetError, EventsError
from events.recording import Recording
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
    """Convert a few recordings in memory and extrapolate; nothing is written.

    Raises:
        DatasetError: None of the recordings tried can be read.
    """
    samples = plan.listing.samples
    places = sorted({place * (len(samples) - 1) // (ESTIMATE_FILES - 1) for place in range(ESTIMATE_FILES)})
    sizes, seconds, reasons = [], [], []
    for place in places:
        part = samples[place].t_range_us
        try:
            bin_recording(_open(plan, place), plan.config.binning, t_range_us=part)
            # Timed the second time: the first one may have compiled the kernels.
            started = time.perf_counter()
            frames = bin_recording(_open(plan, place), plan.config.binning, t_range_us=part)
            sizes.append(len(encode_sample(frames.frames, plan.config.codec)))
            seconds.append(time.perf_counter() - started)
        except (EventsError, OSError) as error:
            reasons.append(str(error))
    if not sizes:
        raise DatasetError(
            f"{plan.listing.root}: none of {len(places)} recordings tried can be read; {reasons[0]}"
        )
    return Estimate(
        files=len(samples),
        shards=plan.shards,
        source_bytes=plan.config.source["bytes"],
        store_bytes=round(len(samples) * sum(sizes) / len(sizes)),
        seconds=len(samples) * sum(seconds) / len(seconds) / max(workers, 1),
        tried=len(sizes),
    )


def _open(plan: Plan, place: int) -> Recording:
    listing = plan.listing
    return open_sample(listing.dataset, listing.root, listing.samples[place].path, plan.config.read)
