"""Small trees of files that look like data sets; what is in a file does not matter to a listing."""

from events.datasets.class_order import CIFAR10_CLASSES


def write_files(root, *paths, content=b"x"):
    """Write a file at each path below a folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def cifar10_paths(per_class, *, classes=CIFAR10_CLASSES):
    """Return the paths of CIFAR10-DVS with that many recordings in each class."""
    return [f"{name}/cifar10_{name}_{number}.aedat" for name in classes for number in range(per_class)]


def splits_by_number(listing, label=0):
    """Return the split of each number of a class."""
    return {s.number: s.split for s in listing.samples if s.label == label}
