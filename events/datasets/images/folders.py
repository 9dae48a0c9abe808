"""Class folders of picture files: Caltech-101, ImageNet, and any others."""

import re
from dataclasses import replace
from pathlib import Path

from events.datasets.folder import FolderLayout, list_folder
from events.datasets.images.archive import plane_names
from events.datasets.listing import Listing
from events.datasets.options import ListOptions
from events.datasets.splits import TEST, TRAIN

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm"})
_EXPECTED = f"<class>/<picture> with a suffix of {', '.join(sorted(SUFFIXES))}"
# Pictures of nothing in particular, which Caltech-101 has beside its 101 classes.
BACKGROUND = "BACKGROUND_Google"

ANY_PICTURES = FolderLayout(dataset="image-folder", expected=_EXPECTED, suffixes=SUFFIXES)
# Fei-Fei, Fergus and Perona 2004; the archive's folder 101_ObjectCategories.
CALTECH101 = FolderLayout(
    dataset="caltech101",
    expected="<class>/image_<number>.jpg",
    suffixes=frozenset({".jpg"}),
    file_name=re.compile(r"image_(?P<number>\d+)\.jpg", re.IGNORECASE),
)
# Russakovsky et al. 2015. Labels of its test part are not public: its validation part is tested on.
IMAGENET = FolderLayout(
    dataset="imagenet",
    expected="train/<class>/<picture>.JPEG and val/<class>/<picture>.JPEG",
    suffixes=frozenset({".jpeg", ".jpg"}),
    split_folders={"train": TRAIN, "val": TEST, "validation": TEST},
)


def list_pictures(root: Path, options: ListOptions, layout: FolderLayout = ANY_PICTURES) -> Listing:
    """List the pictures below a folder by class folder, as `events.datasets.folder` lists recordings.

    Every picture is taken in colour, also one that is grey.

    Raises:
        DatasetError: As `list_folder`.
    """
    return replace(list_folder(root, options, layout), planes=plane_names(3))


def list_imagenet(root: Path, options: ListOptions) -> Listing:
    """List ImageNet or some of its classes: `train` for training, `val` for testing."""
    return list_pictures(root, options, IMAGENET)


def list_caltech101(root: Path, options: ListOptions) -> Listing:
    """List Caltech-101 without its pictures of no class."""
    listing = list_pictures(root, options, CALTECH101)
    if BACKGROUND not in listing.class_names:
        return listing
    dropped = listing.class_names.index(BACKGROUND)
    kept = [sample for sample in listing.samples if sample.label != dropped]
    line = f"{len(listing.samples) - len(kept)} pictures of {BACKGROUND} left out: they are of no class"
    return replace(
        listing,
        class_names=tuple(name for name in listing.class_names if name != BACKGROUND),
        samples=tuple(replace(sample, label=sample.label - (sample.label > dropped)) for sample in kept),
        problems=(*listing.problems, line),
    )
