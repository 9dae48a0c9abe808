"""What a person may choose when a folder is listed as a data set."""

from dataclasses import dataclass
from typing import Literal

Trust = Literal["folder", "name"]


@dataclass(frozen=True)
class ListOptions:
    """How a folder of recordings is listed.

    Attributes:
        split: A split of the data set, in the spelling of `events.datasets.splits.canonical_split`.
        allow_missing: Go on where a whole class or a whole split has no recordings.
        trust: Which of the two is right where a recording's name and its folder say different
            classes; None makes that an error.
        select: Which recordings of the set are taken; empty for a set without such a choice.
    """

    split: str
    allow_missing: bool = False
    trust: Trust | None = None
    select: str = ""
