"""M3ED and EvTTC: the columns x, y, t, p of `/prophesee/left` and `/prophesee/right`, one for each camera.

`calib/resolution` of a camera is width and height; `ms_map_idx` the number of the first event of each
millisecond. Times are microseconds since the start of the sequence, origin top left. The left camera is read
where there is one. Source: Chaney et al., M3ED, "Data format".
"""

from typing import TYPE_CHECKING

import numpy as np

from events.readers.hdf5_layout import Hdf5Layout, columns_in, data_set, size_of

if TYPE_CHECKING:
    import h5py

CAMERAS = ("/prophesee/left", "/prophesee/right")


def find_m3ed(file: "h5py.File") -> Hdf5Layout | None:
    """Return the layout of the first camera; None where there is none."""
    found = {camera: columns_in(file, camera) for camera in CAMERAS}
    cameras = [camera for camera, columns in found.items() if columns is not None]
    if not cameras:
        return None
    camera = cameras[0]
    columns = found[camera]
    assert columns is not None
    size = data_set(file, f"{camera}/calib/resolution")
    width = height = None
    if size is not None and size.shape == (2,) and np.issubdtype(size.dtype, np.number):
        width, height = (int(value) for value in size[()])
    notes = tuple(f"the events of {other} are not read, only those of {camera}" for other in cameras[1:])
    return Hdf5Layout("M3ED", columns, 0, size_of(height, width), {"camera": camera}, notes)
