"""What a layout of HDF5 says: where in a file the columns of its events are, and what their times mean."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py

# Attributes of a file that are looked at; Prophesee writes about twenty.
MOST_ATTRIBUTES = 200


@dataclass(frozen=True)
class TimeIndex:
    """Where a file has the number of the first event at each step of time or later.

    Attributes:
        path: Of the data set: whole numbers, or records with the number `id` and the time `ts`.
        step_us: From the time of one number to that of the next; the first is 0.
    """

    path: str
    step_us: int


@dataclass(frozen=True)
class Hdf5Layout:
    """Where the events of one file are.

    Attributes:
        name: Name of the layout for people.
        place: Where in the file its events are, for people.
        columns: For each of t, x, y and p the path of its data set, and the field in it or None.
        t_offset_us: Added to every time.
        sensor_hw: Height and width in pixels; None where the file does not say.
        facts: For people.
        time_index: Where its index of time is, if it has one; None where its layout has none.
    """

    name: str
    place: str
    columns: dict[str, tuple[str, str | None]]
    t_offset_us: int = 0
    sensor_hw: tuple[int, int] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    time_index: TimeIndex | None = None


def member(start: "h5py.Group", path: str) -> "h5py.Group | h5py.Dataset | None":
    """Return what is at a path from a group; None where there is nothing, or a link to another file."""
    import h5py
    from h5py import h5d, h5g, h5l, h5o

    here = start.id  # by these it is asked a third of what h5py's groups ask
    for name in path.encode().split(b"/"):
        if not name:
            continue
        if not isinstance(here, h5g.GroupID) or not here.links.exists(name):
            return None
        if here.links.get_info(name).type != h5l.TYPE_HARD:
            return None
        here = h5o.open(here, name)
    if here is start.id:
        return start
    if isinstance(here, h5d.DatasetID):
        return h5py.Dataset(here, readonly=True)
    return h5py.Group(here) if isinstance(here, h5g.GroupID) else None


def data_set(start: "h5py.Group", path: str) -> "h5py.Dataset | None":
    """Return the data set at a path from a group, such as a file; None where there is none in this file."""
    import h5py

    found = member(start, path)
    return found if isinstance(found, h5py.Dataset) else None


def whole_number(file: "h5py.File", path: str) -> int | None:
    """Return the single whole number of 62 bits at a path; None where there is none."""
    found = data_set(file, path)
    if found is None or found.shape not in ((), (1,)) or not np.issubdtype(found.dtype, np.integer):
        return None
    number = int(found[()] if found.shape == () else found[0])
    return number if abs(number) < 1 << 62 else None


def text_attributes(file: "h5py.File") -> dict[str, str]:
    """Return the attributes of a file that are text; damaged ones of other types can crash HDF5."""
    import h5py

    said = {}
    for number in range(min(len(file.attrs), MOST_ATTRIBUTES)):
        attribute = h5py.h5a.open(file.id, index=number)
        if isinstance(attribute.get_type(), h5py.h5t.TypeStringID) and attribute.shape == ():
            name = attribute.name.decode("utf-8", errors="replace")
            value = file.attrs[attribute.name]
            said[name] = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    return said


def size_of(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Return height and width where both can be those of a sensor."""
    if height is None or width is None or not (0 < height <= 65536 and 0 < width <= 65536):
        return None
    return height, width


def columns_in(file: "h5py.File", group: str) -> dict[str, tuple[str, str | None]] | None:
    """Return the data sets t, x, y and p of a group by their usual names; None where one is missing."""
    import h5py

    from events.readers.column_events import match_names

    found = member(file, group)
    if not isinstance(found, h5py.Group):
        return None
    named = match_names(list(found))
    if named is None:
        return None
    if any(data_set(found, child) is None for child in named.values()):
        return None
    return {name: (f"{group.rstrip('/')}/{child}", None) for name, child in named.items()}
