"""M3ED and EvTTC: the columns x, y, t, p of `/prophesee/left` and `/prophesee/right`, one for each camera.

`calib/resolution` of a camera is width and height; `ms_map_idx` the number of the first event of each
millisecond. Times are microseconds since the start of the sequence, origin top left. The left camera is the
first stream where there is one. Source: Chaney et al., M3ED, "Data format".
"""

from typing import TYPE_CHECKING

import numpy as np

from events.readers.hdf5_layout import Hdf5Layout, TimeIndex, columns_in, data_set, size_of

if TYPE_CHECKING:
    import h5py

CAMERAS = ("/prophesee/left", "/prophesee/right")


def find_m3ed(file: "h5py.File") -> list[Hdf5Layout]:
    """Return the layout of each camera there is."""
    found = []
    for camera in CAMERAS:
        columns = columns_in(file, camera)
        if columns is not None:
            index = TimeIndex(f"{camera}/ms_map_idx", 1000)
            size = resolution(file, camera)
            found.append(Hdf5Layout("M3ED", camera, columns, 0, size, time_index=index))
    return found


def resolution(file: "h5py.File", camera: str) -> tuple[int, int] | None:
    """Return height and width of a camera; None where the file does not say."""
    size = data_set(file, f"{camera}/calib/resolution")
    if size is None or size.shape != (2,) or not np.issubdtype(size.dtype, np.integer):
        return None
    width, height = (int(value) for value in size[()])
    return size_of(height, width)
