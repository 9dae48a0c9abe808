"""Label files that belong to one picture: VOC XML, YOLO text and the annotations of N-Caltech101.

A VOC or YOLO file tells of all objects at its time, none included: the table's coverage is that microsecond.
One of N-Caltech101 tells of one object.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from events.boxes import corners_to_xyxy, moved_corners
from events.errors import LabelError
from events.labels.table import LabelTable, make_table

# Shares of the picture that a YOLO file may be beyond 0 to 1 by rounding; more are pixels.
ROUNDING = 1e-3


def read_voc(
    path: Path,
    *,
    t_us: int = 0,
    class_names: tuple[str, ...] = (),
    sensor_hw: tuple[int, int] | None = None,
    kind: int,
) -> LabelTable:
    """Read the objects of a VOC XML file.

    Corners are taken as edges, as LabelImg writes them and PEDRo's YOLO files confirm; an object that is
    `difficult` is to be ignored. Its `<filename>` is not looked at: PEDRo's name other files.

    Args:
        path: The file.
        t_us: Time of the boxes in microseconds.
        class_names: Names of the classes in order; empty takes those of the file, by alphabet.
        sensor_hw: Height and width in pixels; has to be what the file says.
        kind: MANUAL or AUTO.

    Raises:
        LabelError: No VOC file, an unknown class, a size other than `sensor_hw`, or what `LabelTable.check`
            refuses.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise LabelError(f"{path}: is no whole XML file ({error}); copy it again") from None
    if root.tag != "annotation":
        raise LabelError(f"{path}: begins with <{root.tag}>; expected <annotation> of VOC")
    size = root.find("size")
    said = None if size is None else (_number(size, "height", path), _number(size, "width", path))
    hw = None if said is None else (int(said[0]), int(said[1]))
    if hw is not None and sensor_hw is not None and hw != tuple(sensor_hw):
        raise LabelError(
            f"{path}: its picture is {hw[0]}x{hw[1]} (height x width), its recording {sensor_hw[0]}x"
            f"{sensor_hw[1]}; take the label file of this recording"
        )
    objects = root.findall("object")
    names = [(one.findtext("name") or "").strip() for one in objects]
    known = class_names or tuple(sorted(set(names)))
    boxes = []
    for one, name in zip(objects, names, strict=True):
        if name not in known:
            raise LabelError(f"{path}: class {name!r} is unknown; known are {', '.join(known)}")
        corners = one.find("bndbox")
        if corners is None:
            raise LabelError(f"{path}: an object of class {name!r} has no <bndbox>")
        boxes.append([_number(corners, edge, path) for edge in ("xmin", "ymin", "xmax", "ymax")])
    return make_table(
        [t_us] * len(objects),
        boxes,
        [known.index(name) for name in names],
        kind=kind,
        ignore=[(one.findtext("difficult") or "0").strip() == "1" for one in objects],
        class_names=known,
        sensor_hw=hw or sensor_hw,
        coverage=[[t_us, t_us + 1]],
        where=str(path),
    )


def read_yolo(
    path: Path,
    *,
    t_us: int = 0,
    class_names: tuple[str, ...] = (),
    sensor_hw: tuple[int, int] | None = None,
    kind: int,
) -> LabelTable:
    """Read the lines `class x y w h [confidence]` of a YOLO text file.

    x and y are the centre; all four are shares of the picture. A file without lines is a picture without
    objects.

    Args:
        path: The file.
        t_us: Time of the boxes in microseconds.
        class_names: Names of the classes in order.
        sensor_hw: Height and width in pixels; the file does not say them.
        kind: MANUAL or AUTO.

    Raises:
        LabelError: The size is not given, a line is none of these, holds pixels, or what `LabelTable.check`
            refuses.
    """
    if sensor_hw is None:
        raise LabelError(f"{path}: boxes are shares of a picture whose size it does not say; give the sensor")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [[float(value) for value in line.split()] for line in lines if line.strip()]
    except ValueError as error:
        raise LabelError(f"{path}: is no text of numbers ({error}); expected lines `class x y w h`") from None
    for number, row in enumerate(rows, 1):
        if len(row) not in (5, 6):
            raise LabelError(f"{path}: line {number} has {len(row)} numbers; expected `class x y w h`")
        if max(row[1:5]) > 1 + ROUNDING or min(row[1:3]) < -ROUNDING:
            raise LabelError(f"{path}: line {number} is beyond the picture; expected shares from 0 to 1")
    cxcywh = np.array([row[1:5] for row in rows], float).reshape(-1, 4) * np.tile(sensor_hw[::-1], 2)
    half = cxcywh[:, 2:] / 2
    return make_table(
        [t_us] * len(rows),
        np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1),
        [row[0] for row in rows],
        score=[row[5] if len(row) == 6 else 1.0 for row in rows],
        kind=kind,
        class_names=class_names,
        sensor_hw=sensor_hw,
        coverage=[[t_us, t_us + 1]],
        where=str(path),
    )


def read_ncaltech101(
    path: Path,
    *,
    times_us: tuple[int, ...] = (0,),
    class_names: tuple[str, ...] = (),
    class_id: int = 0,
    sensor_hw: tuple[int, int] = (180, 240),
    kind: int,
) -> LabelTable:
    """Read the box of an annotation of N-Caltech101, moved with the saccades to each of the times.

    The file is int16, little endian: rows, columns, then the box's corners x, y column by column, clockwise
    from the top left; then the object's outline in the same form, which is not read. Corners are held on the
    sensor, each for itself, so that a corner left of it does not move the far one. Sources: rpg_asynet's
    `dataset.py` (corner places) and tonic's reader (rows, columns).

    Args:
        path: The file.
        times_us: Microseconds since the beginning of the recording; the annotation is for 0.
        class_names: Names of the classes.
        class_id: Class of the recording: the folder says it, not the file.
        sensor_hw: Height and width in pixels of the recording.
        kind: MANUAL or AUTO.

    Raises:
        LabelError: The file is too short or holds no box.
    """
    words = np.frombuffer(path.read_bytes()[: path.stat().st_size // 2 * 2], "<i2")
    if len(words) < 10 or words[0] != 2 or words[1] < 4 or len(words) < 2 + 2 * int(words[1]):
        raise LabelError(
            f"{path}: begins with {words[:2].tolist()} and has {len(words)} words; expected an annotation of "
            "N-Caltech101: 2 rows, at least 4 corners, and their coordinates"
        )
    corners = words[2:10].reshape(4, 2).astype(np.float64)
    times = np.array(times_us, np.int64)
    return make_table(
        times,
        corners_to_xyxy(moved_corners(corners, times, sensor_hw=sensor_hw)),
        np.full(len(times), class_id),
        track_id=np.zeros(len(times), np.int64),
        kind=kind,
        class_names=class_names,
        sensor_hw=sensor_hw,
        where=str(path),
    )


def _number(element: ElementTree.Element, name: str, path: Path) -> float:
    text = element.findtext(name)
    try:
        return float(text or "")
    except ValueError:
        raise LabelError(f"{path}: <{name}> is {text!r}; expected a number") from None
