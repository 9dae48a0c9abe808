"""The order of class names, which is what labels count."""

from collections.abc import Iterable

# The classes of CIFAR-10 in label order (Krizhevsky 2009, batches.meta); it is also alphabetical.
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Return class names in label order.

    Digit words (zero to nine) and decimal numbers go by value, so that the digit seven has label 7;
    anything else is sorted as text, which is also the label order of CIFAR-10.
    """
    unique = set(names)
    if unique <= set(DIGIT_WORDS):
        return tuple(sorted(unique, key=DIGIT_WORDS.index))
    if all(name.isdecimal() for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))
