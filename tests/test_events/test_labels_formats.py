"""Label files of every format: bytes laid out by hand, real ones of PEDRo, and what is refused."""

import json
import struct

import numpy as np
import pytest

from events.errors import ConfigError, EventsError, LabelError
from events.labels.bbox_records import EVENT_BBOX_DTYPE, GEN1_DTYPE
from events.labels.coco import write_coco
from events.labels.formats import identify_labels, read_labels, write_labels
from events.labels.table import AUTO, MANUAL, NO_TRACK, PREDICTED, make_table

# t, x, y, w, h, class, track, confidence
ROWS = [(50_000, 10.5, 20.0, 30.25, 40.0, 1, 3765, 0.75), (20_000, 0.0, 1.0, 2.0, 3.0, 0, 3766, 1.0)]


def write_npy(path, descr, body, count):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': ({count},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body)
    return path


def fields_of(text):
    return [tuple(field.split(":")) for field in text.split(" ")]


def gen1_file(path, padding=0):
    names = "ts:<u8 x:<f4 y:<f4 w:<f4 h:<f4 class_id:|u1 confidence:<f4 track_id:<u4"
    descr = [*fields_of(names), *([("", f"|V{padding}")] if padding else [])]
    body = b"".join(
        struct.pack("<QffffBfI", t, x, y, w, h, k, score, track) + b"\xa5" * padding
        for t, x, y, w, h, k, track, score in ROWS
    )
    return write_npy(path, descr, body, len(ROWS))


def mpx_file(path, swapped=False):
    names = "t:<i8 x:<f4 y:<f4 w:<f4 h:<f4 class_id:<u4 track_id:<u4 class_confidence:<f4"
    descr = [*fields_of(names), ("", "|V4")]
    order = "<qffffIfI4x" if swapped else "<qffffIIf4x"
    body = b"".join(
        struct.pack(order, t, x, y, w, h, k, *((score, track) if swapped else (track, score)))
        for t, x, y, w, h, k, track, score in ROWS
    )
    return write_npy(path, descr, body, len(ROWS))


def dsec_file(path):
    dtype = [("t", "<u8"), ("x", "<f8"), ("y", "<f8"), ("h", "<f8"), ("w", "<f8"), ("class_id", "u1")]
    dtype += [("class_confidence", "<f8"), ("track_id", "<u8"), ("img_name", "<U10")]
    records = np.zeros(len(ROWS), dtype)
    for record, (t, x, y, w, h, k, track, score) in zip(records, ROWS, strict=True):
        record["t"], record["x"], record["y"], record["w"], record["h"] = t, x, y, w, h
        record["class_id"], record["track_id"], record["class_confidence"] = k, track, score
    np.save(path, records)
    return path


def columns_of(table):
    return [column.tolist() for column in table.columns().values()]


@pytest.mark.parametrize(
    ("write", "size", "kind"),
    [
        (gen1_file, 33, MANUAL),
        (lambda path: gen1_file(path, padding=7), 40, MANUAL),
        (mpx_file, 40, AUTO),
        (dsec_file, None, AUTO),
    ],
)
def test_every_variant_of_box_records_gives_the_same_table(tmp_path, write, size, kind):
    path = write(tmp_path / "a_bbox.npy")
    if size is not None:
        assert np.load(path).dtype.itemsize == size
    assert identify_labels(path) == "bbox"
    table = read_labels(path)
    assert columns_of(table)[:5] == [
        [20_000, 50_000],
        [[0, 1, 2, 4], [10.5, 20, 40.75, 60]],
        [0, 1],
        [3766, 3765],
        [1.0, 0.75],
    ]
    assert table.kind.tolist() == [kind] * 2
    assert table.class_names == ()


def test_a_window_before_a_label_does_not_wrap(tmp_path):
    table = read_labels(gen1_file(tmp_path / "a.npy"))
    assert np.load(tmp_path / "a.npy")["ts"].dtype == np.uint64
    assert (table.t[0] - 100_000, table.t.dtype) == (-80_000, np.int64)


@pytest.mark.parametrize(("variant", "dtype"), [("gen1", GEN1_DTYPE), ("1mpx", EVENT_BBOX_DTYPE)])
def test_both_variants_are_written_as_published(tmp_path, variant, dtype):
    published = {"gen1": gen1_file, "1mpx": mpx_file}[variant](tmp_path / "published.npy")
    table = read_labels(published, like="gen1")
    write_labels(tmp_path / "ours.npy", table, variant)
    ours, theirs = np.load(tmp_path / "ours.npy"), np.load(published)
    assert ours.dtype.itemsize == theirs.dtype.itemsize == dtype.itemsize
    assert ours.dtype.fields == theirs.dtype.fields
    assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_boxes_without_a_track_come_back_without_one(tmp_path):
    table = make_table([7], [[1, 2, 3, 4]], [0])
    for variant in ("gen1", "1mpx"):
        write_labels(tmp_path / "a.npy", table, variant)
        assert read_labels(tmp_path / "a.npy").track_id.tolist() == [NO_TRACK]


def test_a_class_too_large_for_a_field_is_not_cut(tmp_path):
    table = make_table([7], [[1, 2, 3, 4]], [300])
    with pytest.raises(
        LabelError, match=r"a\.npy: class_id runs from 300 to 300, which uint8 of variant 'gen1'"
    ):
        write_labels(tmp_path / "a.npy", table, "gen1")


TEXT_CLASSES = [("t", "i8"), ("x", "f4"), ("y", "f4"), ("w", "f4"), ("h", "f4"), ("class_id", "S2")]


def other_bytes(tmp_path):
    """40-byte records under the header of the 33-byte ones."""
    header = gen1_file(tmp_path / "g.npy").read_bytes()[: -33 * len(ROWS)]
    (tmp_path / "a.npy").write_bytes(header + mpx_file(tmp_path / "m.npy").read_bytes()[-40 * len(ROWS) :])


def shorter_bytes(tmp_path):
    header = mpx_file(tmp_path / "m.npy").read_bytes()[: -40 * len(ROWS)]
    (tmp_path / "a.npy").write_bytes(header + gen1_file(tmp_path / "g.npy").read_bytes()[-33 * len(ROWS) :])


def by_position(tmp_path):
    """Gen1's columns put into 1Mpx's one after the other, which exchanges track and confidence."""
    records = np.zeros(len(ROWS), EVENT_BBOX_DTYPE)
    gen1 = np.load(gen1_file(tmp_path / "g.npy"))
    gen1["confidence"] = 1
    for ours, theirs in zip(EVENT_BBOX_DTYPE.names, GEN1_DTYPE.names, strict=True):
        records[ours] = gen1[theirs]
    np.save(tmp_path / "a.npy", records)


def named(tmp_path, **changes):
    records = np.zeros(1, EVENT_BBOX_DTYPE)
    for name, value in changes.items():
        records[name] = value
    np.save(tmp_path / "a.npy", records)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (other_bytes, "bytes behind its 2 records of 33; records of another size"),
        (shorter_bytes, r"is no readable \.npy of boxes"),
        (lambda at: mpx_file(at / "a.npy", swapped=True), r"class_confidence holds 5\.28e-42, the bytes of "),
        (by_position, "class_confidence runs to 3766 and track_id to 1: they are exchanged"),
        (
            lambda at: np.save(at / "a.npy", np.zeros((3, 8))),
            r"holds float64 \[3, 8\] without names of fields",
        ),
        (lambda at: (at / "a.npy").write_bytes(b"\x93NUMPY\x01\x00"), r"is no readable \.npy of boxes"),
        (lambda at: np.save(at / "a.npy", np.zeros(2, "i8,f4")), "has no field x, y, w, h, class_id, t"),
        (
            lambda at: np.save(at / "a.npy", np.zeros(2, "i8, f4, f4, f4, f4, S2").astype(TEXT_CLASSES)),
            "field class_id holds .* expected a number in each",
        ),
        (lambda at: named(at, x=np.nan), "has a coordinate or score that is no finite number"),
        (lambda at: named(at, w=-1), "has a negative width or height"),
        (lambda at: named(at, class_id=2), r"unknown class; known are 0 to 1 \(car, pedestrian\)"),
        (lambda at: np.save(at / "a.npy", np.array([{}]), allow_pickle=True), r"is no readable \.npy"),
    ],
)
def test_bad_box_records_are_refused_in_one_line(tmp_path, write, message):
    write(tmp_path)
    with pytest.raises(LabelError, match=rf"^.*a\.npy: .*{message}") as caught:
        read_labels(tmp_path / "a.npy", like="gen1")
    assert "\n" not in str(caught.value)


def rvt_sequence(folder, own_times=(100_000, 200_000, 200_000)):
    (folder / "labels_v2").mkdir(parents=True)
    records = np.zeros(3, EVENT_BBOX_DTYPE)
    records["t"], records["x"], records["w"], records["h"] = own_times, [1, 2, 3], 10, 5
    records["class_confidence"], records["track_id"] = 1, [4, 6, 5]
    np.savez(folder / "labels_v2" / "labels.npz", labels=records, objframe_idx_2_label_idx=np.array([0, 1]))
    np.save(folder / "labels_v2" / "timestamps_us.npy", np.array([100_000, 200_000]))
    return folder


def test_rvt_labels_take_the_times_of_their_frames(tmp_path):
    sequence = rvt_sequence(tmp_path / "a", own_times=(100_000, 200_000, 0))
    for path in (sequence, sequence / "labels_v2", sequence / "labels_v2" / "labels.npz"):
        table = read_labels(path, like="gen1")
        assert table.t.tolist() == [100_000, 200_000, 200_000]
        assert table.track_id.tolist() == [4, 5, 6]
        assert table.xyxy[:, 0].tolist() == [1, 3, 2]
        assert table.kind.tolist() == [MANUAL, PREDICTED, MANUAL]


def test_rvt_labels_written_and_read_again(tmp_path):
    table = read_labels(rvt_sequence(tmp_path / "a"))
    write_labels(tmp_path / "b", table, "rvt")
    with np.load(tmp_path / "b" / "labels_v2" / "labels.npz") as archive:
        assert archive["labels"].dtype == EVENT_BBOX_DTYPE
        assert archive["objframe_idx_2_label_idx"].tolist() == [0, 1]
    assert np.load(tmp_path / "b" / "labels_v2" / "timestamps_us.npy").tolist() == [100_000, 200_000]
    assert columns_of(read_labels(tmp_path / "b")) == columns_of(table)


def test_rvt_folders_that_do_not_fit_together_are_refused(tmp_path):
    sequence = rvt_sequence(tmp_path / "a")
    np.save(sequence / "labels_v2" / "timestamps_us.npy", np.array([1]))
    with pytest.raises(LabelError, match="2 labelled frames over 3 rows do not fit 1 times"):
        read_labels(sequence)
    (sequence / "labels_v2" / "timestamps_us.npy").unlink()
    with pytest.raises(LabelError, match=r"has labels\.npz but no timestamps_us\.npy"):
        read_labels(sequence)
    (sequence / "labels_v2" / "labels.npz").write_bytes(b"PK\x03\x04")
    np.save(sequence / "labels_v2" / "timestamps_us.npy", np.array([1]))
    with pytest.raises(LabelError, match=r"expected labels\.npz with labels and objframe"):
        read_labels(sequence)


def test_an_ncaltech101_box_moves_with_the_saccades(tmp_path):
    corners = [(-3, 10), (200, 10), (200, 90), (-3, 90), (-3, 10)]
    words = [2, 5, *np.ravel(corners), 2, 1, 7, 7]
    (tmp_path / "annotation_0001.bin").write_bytes(struct.pack(f"<{len(words)}h", *words))
    assert identify_labels(tmp_path / "annotation_0001.bin") == "ncaltech101"
    table = read_labels(tmp_path / "annotation_0001.bin", times_us=(0, 100_000, 200_000), class_id=9)
    # The far corner stays where it is although the near one is left of the sensor; the last pixel counts.
    assert table.xyxy.tolist() == [[0, 10, 201, 91], [0.5, 17, 204.5, 98], [4, 10, 208, 91]]
    assert table.class_id.tolist() == [9, 9, 9]
    assert table.sensor_hw == (180, 240)
    (tmp_path / "short.bin").write_bytes(struct.pack("<4h", 2, 5, 1, 1))
    with pytest.raises(LabelError, match=r"short\.bin: begins with \[2, 5\] and has 4 words"):
        read_labels(tmp_path / "short.bin", "ncaltech101")


VOC = """<annotation><size><width>346</width><height>260</height></size>
<object><name>person</name><difficult>1</difficult><bndbox><xmin>51</xmin><ymin>63</ymin><xmax>127</xmax>
<ymax>254</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (VOC[:-9], {}, "is no whole XML file"),
        (VOC.replace("annotation", "note"), {}, "begins with <note>"),
        (VOC.replace("person", "dog"), {"like": "pedro"}, "class 'dog' is unknown; known are person"),
        (VOC, {"sensor_hw": (240, 304)}, "its picture is 260x346 .* its recording 240x304"),
        (VOC.replace("51", "x"), {}, "<xmin> is 'x'; expected a number"),
        (VOC.replace("127", "7"), {}, "has a negative width or height"),
    ],
)
def test_bad_voc_files(tmp_path, text, given, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError, match=rf"a\.xml: .*{message}"):
        read_labels(tmp_path / "a.xml", **given)


def test_voc_objects_that_are_difficult_are_ignored(tmp_path):
    (tmp_path / "a.xml").write_text(VOC)
    table = read_labels(tmp_path / "a.xml", t_us=40_000)
    assert columns_of(table)[:3] == [[40_000], [[51, 63, 127, 254]], [0]]
    assert table.ignore.tolist() == [True]
    assert table.coverage.tolist() == [[40_000, 40_001]]
    assert (table.class_names, table.sensor_hw) == (("person",), (260, 346))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 51 63 127 254\n", "line 1 is beyond the picture; expected shares"),
        ("0 0.5 0.5 0.1\n", "line 1 has 4 numbers"),
        ("person 0.5 0.5 0.1 0.1\n", "is no text of numbers"),
        ("1 0.5 0.5 0.1 0.1\n", "unknown class"),
        ("0 0.5 0.5 -0.1 0.1\n", "negative width"),
        ("0 nan 0.5 0.1 0.1\n", "no finite number"),
    ],
)
def test_bad_yolo_files(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(LabelError, match=rf"a\.txt: .*{message}"):
        read_labels(tmp_path / "a.txt", like="pedro")


def test_yolo_files(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.25 0.1 0.5 0.75\n\n0 0.5 0.5 1 1\n")
    table = read_labels(tmp_path / "a.txt", sensor_hw=(100, 200))
    assert table.xyxy.tolist() == [[90, 0, 110, 50], [0, 0, 200, 100]]
    assert table.score.tolist() == [0.75, 1.0]
    (tmp_path / "none.txt").write_text("")
    none = read_labels(tmp_path / "none.txt", like="pedro", t_us=70)
    assert (len(none), none.coverage.tolist()) == (0, [[70, 71]])
    with pytest.raises(LabelError, match="whose size it does not say; give the sensor"):
        read_labels(tmp_path / "a.txt")


def test_pedros_two_label_files_agree_and_lie_on_the_sensor(samples):
    folder = samples("pedro/examples")
    files = sorted((folder / "xml").glob("*/*.xml"))
    assert len(files) == 12
    boxes = 0
    for xml in files:
        voc = read_labels(xml, like="pedro")
        yolo = read_labels(folder / "yolo" / xml.parent.name / f"{xml.stem}.txt", like="pedro")
        assert (yolo.class_id == 0).all()
        by_left = [np.array(sorted(table.xyxy.tolist())) for table in (voc, yolo)]
        np.testing.assert_allclose(by_left[0], by_left[1], atol=1e-3)
        assert (voc.xyxy >= 0).all()
        assert (voc.xyxy <= [346, 260, 346, 260]).all()
        boxes += len(voc)
    assert boxes == 16  # lines of the YOLO files, counted by wc


def test_coco_of_two_recordings(tmp_path):
    given = {"class_names": ("car", "pedestrian"), "sensor_hw": (240, 304)}
    a = make_table(
        [5, 5, 9], [[0, 0, 2, 3], [1, 1, 4, 5], [2, 2, 3, 3]], [0, 1, 0], track_id=[2, 1, 1], **given
    )
    b = make_table([5], [[0, 0, 10, 20]], [1], ignore=[True], **given)
    write_coco(tmp_path / "all.json", {"a": a, "b": b}, times_us={"b": [5, 7]})
    data = json.loads((tmp_path / "all.json").read_text())
    assert [one["file_name"] for one in data["images"]] == ["a@5", "a@9", "b@5", "b@7"]
    assert [(one["height"], one["width"]) for one in data["images"]] == [(240, 304)] * 4
    assert data["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}]
    assert [one["image_id"] for one in data["annotations"]] == [1, 1, 2, 3]
    assert [one["bbox"] for one in data["annotations"]] == [
        [1, 1, 3, 4],
        [0, 0, 2, 3],
        [2, 2, 1, 1],
        [0, 0, 10, 20],
    ]
    assert [one["category_id"] for one in data["annotations"]] == [2, 1, 1, 2]
    assert [one["iscrowd"] for one in data["annotations"]] == [0, 0, 0, 1]
    assert [one["id"] for one in data["annotations"]] == [1, 2, 3, 4]


def test_coco_needs_one_list_of_classes_and_a_size(tmp_path):
    table = make_table([5], [[0, 0, 2, 3]], [0])
    with pytest.raises(LabelError, match="a: the sensor's size is not known"):
        write_labels(tmp_path / "a.json", table, "coco")
    named_table = make_table([5], [[0, 0, 2, 3]], [0], class_names=["car"], sensor_hw=(9, 9))
    other = make_table([5], [[0, 0, 2, 3]], [0], class_names=["cat"], sensor_hw=(9, 9))
    with pytest.raises(LabelError, match="b: classes"):
        write_coco(tmp_path / "a.json", {"a": named_table, "b": other})


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(ConfigError, match=r"label format 'bbx' has no reader; .* did you mean 'bbox'"):
        read_labels(tmp_path / "a.npy", "bbx")
    with pytest.raises(ConfigError, match=r"label set 'gen2' is unknown; .* did you mean 'gen1'"):
        read_labels(tmp_path / "a.npy", "bbox", like="gen2")
    with pytest.raises(ConfigError, match="label format 'coc' has no writer"):
        write_labels(tmp_path / "a", make_table([], [], []), "coc")
    for format in (None, "bbox", "voc"):
        with pytest.raises(EventsError, match=r"a\.npy: cannot be read: No such file"):
            read_labels(tmp_path / "a.npy", format)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(LabelError, match=r"a\.jpg: is no label file known here"):
        read_labels(tmp_path / "a.jpg")


def yolo_file(path):
    path.write_text("0 0.5 0.25 0.1 0.5 0.75\n\n0 0.5 0.5 1 1\n")
    return path


def voc_file(path):
    path.write_text(VOC)
    return path


def annotation_file(path):
    words = [2, 5, 40, 30, 160, 30, 160, 170, 40, 170, 40, 30]
    path.write_bytes(struct.pack(f"<{len(words)}h", *words))
    return path


def problem_of(path):
    try:
        read_labels(path, sensor_hw=(260, 346))
    except EventsError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "write", [gen1_file, mpx_file, dsec_file, voc_file, yolo_file, annotation_file, rvt_sequence]
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, write):
    path = write(tmp_path / "a.npy")
    rng = np.random.default_rng(0)
    files = [path] if path.is_file() else sorted(path.rglob("*.np?"))
    refused = 0
    for number in range(300):
        file = files[number % len(files)]
        whole = file.read_bytes()
        damaged = bytearray(whole)
        at = int(rng.integers(len(whole)))
        if number % 3 == 0:
            damaged[at] = int(rng.integers(256))
        elif number % 3 == 1:
            del damaged[at : at + int(rng.integers(1, 9))]
        else:
            damaged[at:at] = rng.bytes(int(rng.integers(1, 9)))
        file.write_bytes(damaged)
        said = problem_of(path)
        refused += said is not None
        assert "\n" not in (said or "")
        file.write_bytes(whole)
    assert 0 < refused < 300
