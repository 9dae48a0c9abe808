"""Which samples a run trains on, chooses the best epoch with, and tests on."""

from dataclasses import dataclass

import numpy as np

from events.store.reader import FrameStore
from pipelines.errors import RunError


@dataclass(frozen=True)
class SampleSplit:
    """Positions of samples, or windows with boxes, in the store, ascending, int64.

    None is in two of them, but where a detector is made to learn a few windows by heart.

    Attributes:
        train: Trained on.
        validation: Decide which epoch is the best.
        test: Looked at once, at the end.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_samples(store: FrameStore, *, validation_share: float, seed: int) -> SampleSplit:
    """Return the samples of a run.

    A store with a validation split keeps it. Otherwise the seed picks the same share of the training
    samples of every class. Test samples are only those the store calls so.

    Raises:
        RunError: A class cannot be learned or nothing can be tested.
    """
    train, test = store.indices("train"), store.indices("test")
    if len(test) == 0:
        raise RunError(
            f"{store.path}: no test samples; convert with a split that has some, such as --split random:0:0.9"
        )
    missing = [n for k, n in enumerate(store.class_names) if not (store.label[train] == k).any()]
    if missing:
        raise RunError(
            f"{store.path}: no training samples of class {', '.join(missing)}; "
            "convert again with recordings of all classes in the training split"
        )
    validation = store.indices("validation")
    if len(validation) == 0:
        validation = _stratified(train, store, share=validation_share, seed=seed)
    return SampleSplit(np.setdiff1d(train, validation), validation, test)


def spread_samples(indices: np.ndarray, count: int | None) -> np.ndarray:
    """Return so many of the samples, evenly spaced, to measure ranges and thresholds on; None for all."""
    if count is None or count >= len(indices):
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).astype(np.int64)]


def _stratified(train: np.ndarray, store: FrameStore, *, share: float, seed: int) -> np.ndarray:
    """Pick the same share of every class, at least one sample of each."""
    draws = np.random.Philox(key=np.array([seed, 0x5EED], np.uint64)).random_raw(store.shape[0])
    # Draws go by the recording's place in the listing, so that they do not depend on the stored order.
    draws = draws[store.source_index]
    picked = []
    for number, name in enumerate(store.class_names):
        members = train[store.label[train] == number]
        if len(members) < 2:
            raise RunError(
                f"{store.path}: class {name} has {len(members)} training sample; at least 2 are needed, "
                "one of them for validation"
            )
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        picked.append(members[np.argsort(draws[members], kind="stable")[:count]])
    return np.sort(np.concatenate(picked))
