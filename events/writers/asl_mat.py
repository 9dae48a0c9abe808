"""MATLAB files with the column vectors ts, x, y and pol, y from the bottom, as those of ASL-DVS.

The layout is in `events.readers.mat`. The `.mat` files of test_dvs.m are another thing: see
`events.writers.mat`.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from events.recording import EVENT_DTYPE
from events.writers.atomic import atomic_file
from events.writers.event_stream import pieces

# The text that begins the file, 116 bytes; SciPy would put the date there.
TITLE = b"MATLAB 5.0 MAT-file, events of a sensor"


def write_asl_mat(
    path: Path, events: np.ndarray | Iterable[np.ndarray], *, sensor_hw: tuple[int, int]
) -> None:
    """Write a level 5 MATLAB file; the events are gathered in memory first. Raises as `write_recording`."""
    from scipy.io import savemat

    parts = [piece.copy() for piece, _ in pieces(events, sensor_hw=sensor_hw)]
    whole = np.concatenate([np.empty(0, EVENT_DTYPE), *parts])
    columns = {
        "ts": whole["t"],
        "x": whole["x"],
        "y": (sensor_hw[0] - 1 - whole["y"].astype(np.int64)).astype(np.uint16),
        "pol": whole["p"].astype(np.uint8),
    }
    memory = io.BytesIO()
    savemat(memory, columns, format="5", do_compression=True, oned_as="column")
    data = memory.getvalue()
    with atomic_file(path) as stream:
        stream.write(TITLE.ljust(116) + data[116:])
