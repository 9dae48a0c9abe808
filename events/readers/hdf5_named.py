"""Any other HDF5: a group with data sets named as t, x, y, p, or a data set of records with such fields.

So evl's `event.hdf5` (`/raw_events/{x,y,t,p}`, t in seconds) and tonic's caches (records in `/data/0`) are
read. Whole numbers are microseconds and others seconds, as in `.npz`. Origin: taken for the
top left.
"""

from typing import TYPE_CHECKING

from events.readers.column_events import match_names
from events.readers.hdf5_layout import Hdf5Layout, columns_in, data_set

if TYPE_CHECKING:
    import h5py

# Groups and data sets looked at; files of events have a few dozen.
MOST_MEMBERS = 10_000


def members(file: "h5py.File") -> list[str]:
    """Return the paths of all groups and data sets, the first MOST_MEMBERS of them."""
    paths: list[str] = []

    def note(name: str, _member: object) -> bool | None:
        paths.append(f"/{name}")
        return True if len(paths) >= MOST_MEMBERS else None

    file.visititems(note)
    return paths


def find_named(file: "h5py.File") -> list[Hdf5Layout]:
    """Return where there are events in the file."""
    found = []
    for path in ["/", *members(file)]:
        columns = columns_in(file, path) or fields_of(file, path)
        if columns is not None:
            found.append(Hdf5Layout(f"columns of {path}", path, columns))
    return found


def fields_of(file: "h5py.File", path: str) -> dict[str, tuple[str, str | None]] | None:
    """Return the fields t, x, y and p of the records in a data set; None where it has none such."""
    found = data_set(file, path)
    if found is None or found.dtype.names is None:
        return None
    names = match_names(list(found.dtype.names))
    return None if names is None else {field: (path, name) for field, name in names.items()}
