"""DSEC's `events.h5`, and those that RVT, eTraM and evlib write: the columns p, t, x, y of `/events`.

DSEC and RVT: t in microseconds since `/t_offset`, int64 microseconds, which is added, so that times are those
of the data set's other files; `/ms_to_idx` has the number of the first event of each millisecond of t. eTraM
and RVT: the sensor in the numbers `/events/width` and `/events/height`. Origin top left.
Source: Gehrig et al., DSEC, "Data format"; uzh-rpg/RVT, preprocessing; eTraM, README.
"""

from typing import TYPE_CHECKING

from events.readers.hdf5_layout import Hdf5Layout, TimeIndex, columns_in, data_set, size_of, whole_number

if TYPE_CHECKING:
    import h5py

MS_TO_INDEX = "/ms_to_idx"


def find_dsec(file: "h5py.File") -> list[Hdf5Layout]:
    """Return the layout of a file with the columns of `/events`; nothing where it has none."""
    columns = columns_in(file, "/events")
    if columns is None:
        return []
    offset = whole_number(file, "/t_offset")
    sensor_hw = size_of(whole_number(file, "/events/height"), whole_number(file, "/events/width"))
    if offset is not None or data_set(file, MS_TO_INDEX) is not None:
        name = "DSEC"
    else:
        name = "eTraM" if sensor_hw else "columns of /events"
    facts = {} if offset is None else {"t_offset_us": offset, "times": "t_offset_us is added to them"}
    index = TimeIndex(MS_TO_INDEX, 1000)
    return [Hdf5Layout(name, "/events", columns, offset or 0, sensor_hw, facts, index)]
