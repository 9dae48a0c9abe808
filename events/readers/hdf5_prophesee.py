"""Prophesee's HDF5 event files: `/CD/events`, records of x, y, p, t, compressed with ECF or not at all.

`/CD/indexes` has an entry each 2000 us with the number of the first event from there on,
`/EXT_TRIGGER/events` records of p, t, id; the attribute `geometry` of the file is width x height. Origin top
left. Source: docs.prophesee.ai, "HDF5 event files".
"""

import re
from typing import TYPE_CHECKING

from events.readers.column_events import match_names
from events.readers.hdf5_layout import Hdf5Layout, TimeIndex, data_set, size_of, text_attributes

if TYPE_CHECKING:
    import h5py

EVENTS = "/CD/events"
INDEX = "/CD/indexes"
TRIGGERS = "/EXT_TRIGGER/events"


def find_prophesee(file: "h5py.File") -> list[Hdf5Layout]:
    """Return the layout of a file of Prophesee's; nothing where it is none."""
    found = data_set(file, EVENTS)
    if found is None or found.dtype.names is None:
        return []
    names = match_names(list(found.dtype.names))
    if names is None:
        return []
    said = text_attributes(file)
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", said.get("geometry", ""))
    return [
        Hdf5Layout(
            name="Prophesee",
            place=EVENTS,
            columns={field: (EVENTS, name) for field, name in names.items()},
            sensor_hw=size_of(int(size[2]), int(size[1])) if size else None,
            facts=said,
            time_index=TimeIndex(INDEX, 2000),
        )
    ]
