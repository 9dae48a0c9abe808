"""`events labels`: files beside recordings, folders of them, pictures, other formats, and real ones."""

import json
import struct

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from events.cli.program import app
from events.inspect import label_sheet
from events.inspect.label_sheet import MARKED_RGB, draw_audits, fit_scale
from events.inspect.labels import LabelOptions, audit_file
from events.labels.formats import read_labels, write_labels
from events.labels.table import INTERPOLATED, make_table
from events.recording import EVENT_DTYPE, ReadOptions
from events.store.reader import open_store
from events.writers.registry import write_recording
from tests.suites.boxed_files import write_pedro

HW = (240, 304)
# Four boxes every 250 ms: on the moving dot, and one where nothing ever happens, and the first box twice.
TIMES = np.arange(250_000, 1_000_000, 250_000)


def dot_events():
    """A dot of 4 x 4 pixels that moves right, 100 px/s, and its every tenth event a second time."""
    t = np.arange(0, 1_000_000, 100)
    events = np.zeros(len(t), EVENT_DTYPE)
    events["t"], events["p"] = t, t // 100 % 2
    events["x"] = 50 + t * 100 // 1_000_000 + t // 100 % 4
    events["y"] = 100 + t // 400 % 4
    return np.insert(events, np.arange(0, len(t), 10), events[::10])


def dot_labels():
    boxes = [[48 + t / 10_000 - 10, 98, 48 + t / 10_000 + 8, 106] for t in TIMES]
    still = [[200, 10, 220, 30]] * len(TIMES)
    return make_table(
        np.concatenate([TIMES, TIMES, TIMES[:1]]),
        boxes + still + boxes[:1],
        [0] * len(TIMES) + [1] * len(TIMES) + [0],
        track_id=[1] * len(TIMES) + [2] * len(TIMES) + [3],
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs `events labels` beside a recording and its labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    write_recording(tmp_path / "a_td.dat", dot_events(), format="dat", sensor_hw=HW)
    write_labels(tmp_path / "a_bbox.npy", dot_labels(), "gen1")
    return lambda *arguments: CliRunner().invoke(app, ["labels", *map(str, arguments)])


def test_one_line_of_a_file_whose_recording_lies_beside_it(run):
    result = run("audit", "a_bbox.npy", "--like", "gen1")
    assert result.exit_code == 0, result.output
    assert result.output == (
        "a_bbox.npy: 7 boxes, labelled times 3 (4.0 Hz): car 4, pedestrian 3; "
        "doubtful 4 (57.1 %): 3 empty, 1 duplicate; 9.1 % of events are duplicates\n"
    )


def test_json_names_the_rows(run):
    result = run("audit", "a_bbox.npy", "a_td.dat", "--like", "gen1", "--json", "--window", "50ms")
    facts = json.loads(result.output)["files"][0]
    assert facts["rows"] == {"empty": [1, 4, 6], "duplicate": [2]}
    assert facts["recording"]["events"] == 11_000
    assert facts["recording"]["duplicate_events"] == 1_000
    assert facts["findings"]["empty"]["boxes"] == 3
    assert facts["misfit"] is None


def test_duplicates_of_events_can_be_left_out_of_the_counts(tmp_path, run):
    both = [
        audit_file(tmp_path / "a_bbox.npy", tmp_path / "a_td.dat", dedup=dedup) for dedup in (False, True)
    ]
    dot = dot_labels().track_id == 1
    # 100 ms hold 1000 events of the dot, or 1100 with every tenth twice.
    assert both[0].audit.events[dot].tolist() == [1_100] * 3
    assert both[1].audit.events[dot].tolist() == [1_000] * 3
    assert [one.duplicate_events for one in both] == [1_000, 1_000]


def test_a_folder_is_audited_pair_by_pair_and_says_what_is_missing(tmp_path, run):
    write_recording(tmp_path / "b_td.dat", dot_events(), format="dat", sensor_hw=HW)
    write_labels(tmp_path / "c_bbox.npy", dot_labels(), "1mpx")
    np.save(tmp_path / "d_bbox.npy", np.zeros((3, 8)))
    write_recording(tmp_path / "d_td.dat", dot_events(), format="dat", sensor_hw=HW)
    result = run("audit", ".", "--like", "gen1", "--png", "sheet.png")
    assert result.exit_code == 3, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("a_bbox.npy: 7 boxes")
    assert sorted(lines[1:]) == [
        "problem: b_td.dat: has no b_bbox.npy beside it",
        "problem: c_bbox.npy: has no recording c_td.dat beside it",
        "problem: d_bbox.npy: holds float64 [3, 8] without names of fields, so which column is which cannot "
        "be known; expected records with t (or ts), x, y, w, h, class_id",
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 304


def test_labels_of_another_recording_are_told_and_the_exit_code_says_so(tmp_path, run):
    labels = dot_labels()
    late = make_table(labels.t + 60_000_000, labels.xyxy, labels.class_id)
    write_labels(tmp_path / "a_bbox.npy", late, "gen1")
    result = run("audit", ".", "--json")
    assert result.exit_code == 1
    assert "7 of 7 boxes are outside its recording's time" in json.loads(result.output)["misfits"][0]
    write_labels(tmp_path / "a_bbox.npy", labels, "gen1")
    result = run("audit", "a_bbox.npy", "--like", "1mpx")
    assert result.exit_code == 1
    assert (
        "problem: a_bbox.npy: labels are for a sensor of 720x1280 (height x width), its recording has 240"
        in (result.output)
    )


def test_a_single_bad_file_is_one_line(tmp_path, run):
    np.save(tmp_path / "a_bbox.npy", np.zeros((3, 8)))
    result = run("audit", "a_bbox.npy")
    assert result.exit_code == 1
    assert result.output.startswith("error: a_bbox.npy: holds float64 [3, 8] without names")
    assert result.output.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert "holds no *_bbox.npy" in run("audit", "empty").output
    assert "name no other" in run("audit", ".", "a_td.dat").output
    assert run("audit", "a_bbox.npy", "--overlap", "2").exit_code == 2


def test_the_sheet_shows_the_doubtful_box_where_it_is(tmp_path, run):
    found = audit_file(tmp_path / "a_bbox.npy", tmp_path / "a_td.dat")
    assert fit_scale(HW) == 1
    one = np.asarray(draw_audits([found], tiles=1))
    marked = (one == MARKED_RGB).all(axis=2)
    y, x = np.nonzero(marked)
    # The tile begins at x 10, y 33; the box 200 10 220 30 is drawn within its edges, in lines of 2 pixels.
    assert (x.min() - 10, x.max() - 10 + 1, y.min() - 33, y.max() - 33 + 1) == (200, 220, 10, 30)
    assert marked.sum() == 20 * 20 - 16 * 16
    # Every finding has a picture before any has a second, and boxes without a finding come last.
    all_seven = draw_audits([found], tiles=50)
    assert all_seven.size == draw_audits([found], tiles=7).size
    assert all_seven.height > draw_audits([found], tiles=4).height


def test_the_sheet_of_labels_without_a_recording_or_without_boxes(tmp_path, run):
    found = audit_file(tmp_path / "a_bbox.npy")
    assert found.recording is None
    assert draw_audits([found]).width > 100
    write_labels(tmp_path / "none_bbox.npy", make_table([], [], []), "gen1")
    assert draw_audits([audit_file(tmp_path / "none_bbox.npy")]).width > 100


def test_the_options_name_every_set_and_format():
    from typing import get_args

    from events.cli import labels as commands
    from events.labels.classes import LABEL_SETS
    from events.labels.formats import READERS

    def choices(option):
        return [name for part in get_args(get_args(option)[0]) for name in get_args(part)]

    assert sorted(choices(commands.Like)) == sorted(LABEL_SETS)
    assert sorted(choices(commands.Format)) == sorted(READERS)


def test_info(run):
    result = run("info", "a_bbox.npy", "--like", "gen1")
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=1) for line in result.output.splitlines()]
    assert ["boxes", "7"] in lines
    assert ["classes", "car 4, pedestrian 3"] in lines
    assert ["sensor", "240 x 304"] in lines
    facts = json.loads(run("info", "a_bbox.npy", "--json").output)
    assert (facts["boxes"], facts["classes"], facts["kinds"]) == (7, {"0": 4, "1": 3}, {"manual": 7})


def test_convert(tmp_path, run):
    result = run("convert", "a_bbox.npy", "b_bbox.npy", "--to", "1mpx", "--interpolate", "50ms")
    assert result.exit_code == 0, result.output
    # Four between 250 and 500 ms and four between 500 and 750, of the dot and of the still box.
    assert result.output == "wrote b_bbox.npy: 23 boxes, 16 of them interpolated\n"
    assert len(read_labels(tmp_path / "b_bbox.npy").at(300_000)) == 2
    assert (read_labels(tmp_path / "b_bbox.npy").kind != INTERPOLATED).all()  # the format cannot say it
    assert run("convert", "a_bbox.npy", "a.json", "--to", "coco", "--like", "gen1").exit_code == 0
    assert len(json.loads((tmp_path / "a.json").read_text())["annotations"]) == 7
    assert run("convert", "a_bbox.npy", "seq", "--to", "rvt").exit_code == 0
    assert len(read_labels(tmp_path / "seq")) == 7
    refused = run("convert", "a_bbox.npy", "b.npy", "--to", "gen1", "--max-gap", "1s")
    assert (refused.exit_code, refused.output) == (2, "error: --max-gap belongs to --interpolate\n")


def test_a_conversion_without_repeated_events(tmp_path, run):
    for split in ("train", "test"):
        (tmp_path / "Gen1" / split).mkdir(parents=True)
        write_recording(tmp_path / "Gen1" / split / "a_td.dat", dot_events(), format="dat", sensor_hw=HW)
        write_labels(tmp_path / "Gen1" / split / "a_bbox.npy", dot_labels(), "gen1")
    counted = {}
    for options in ((), ("--dedup",)):
        store = f"{len(options)}.zarr"
        command = ["convert", "gen1", "Gen1", store, "--preset", "counts", "--workers", "1", *options]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        counted[options] = open_store(tmp_path / store).n_events.tolist()
    # Windows of 100 ms before three label times, of two recordings; every tenth event is there twice.
    assert counted == {(): [1_100] * 6, ("--dedup",): [1_000] * 6}


def test_pedros_windows_hold_events_in_every_box(samples):
    folder = samples("pedro/examples")
    options, reading = LabelOptions(like="pedro"), ReadOptions(columns="t:us,x,y,p")
    recordings = sorted((folder / "numpy").glob("*/*.npy"))
    assert len(recordings) == 9
    boxes = 0
    for path in recordings:
        where = path.relative_to(folder / "numpy").with_suffix("")
        both = [
            audit_file(folder / f"{name}/{where}{suffix}", path, labels=options, reading=reading)
            for name, suffix in (("xml", ".xml"), ("yolo", ".txt"))
        ]
        events = np.load(path)
        for found in both:
            assert found.misfit is None
            table = found.audit.labels
            for (x0, y0, x1, y1), count in zip(table.xyxy, found.audit.events, strict=True):
                # All events of a window of 40 ms lie within 100 ms before its end.
                x, y = events[:, 1], events[:, 2]
                assert count == ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).sum()
                assert count > 0
        assert sorted(both[0].audit.found) == sorted(both[1].audit.found)
        boxes += len(both[0].audit.labels)
    assert boxes == 13


def test_a_real_recording_of_ncaltech101_with_a_box(samples, tmp_path):
    words = [2, 5, 40, 30, 160, 30, 160, 170, 40, 170, 40, 30]
    annotation = tmp_path / "annotation_0001.bin"
    annotation.write_bytes(struct.pack(f"<{len(words)}h", *words))
    found = audit_file(annotation, samples("ncaltech101/faces_easy_0001.bin"))
    assert found.audit.labels.t.tolist() == [100_000, 200_000, 300_000]
    assert found.audit.labels.xyxy[2].tolist() == [40, 30, 161, 171]
    assert found.misfit is None
    assert (found.audit.events > 1_000).all()


def test_a_folder_of_a_set_that_has_its_labels_elsewhere(tmp_path, run):
    write_pedro(tmp_path / "PEDRo")
    (tmp_path / "PEDRo" / "numpy" / "val" / "alone.npy").write_bytes(b"")
    result = run("audit", "PEDRo", "--like", "pedro", "--png", "sheet.png")
    assert result.exit_code == 3, result.output
    assert result.stdout.splitlines() == [
        "frame0.xml: 1 box, labelled times 1: person 1; doubtful 0 (0.0 %)",
        "frame1.txt: 1 box, labelled times 1: person 1; doubtful 0 (0.0 %)",
        "frame2.xml: 0 boxes, labelled times 0; doubtful 0 (0.0 %)",
        "3 label files: 2 boxes, 0 doubtful",
        "problem: numpy/val/alone.npy: has no label file",
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 346
    # A single file's columns are known, too.
    one = run("audit", "PEDRo/xml/train/frame0.xml", "PEDRo/numpy/train/frame0.npy", "--like", "pedro")
    assert (one.exit_code, one.output.splitlines()[0]) == (0, result.stdout.splitlines()[0])
    assert "or the set with --like" in run("audit", "PEDRo").output


def test_pedros_repository_is_audited_as_it_is(samples, run):
    result = run("audit", samples("pedro"), "--like", "pedro", "--json")
    assert result.exit_code == 3, result.output
    found = json.loads(result.output)
    assert (len(found["files"]), sum(file["boxes"] for file in found["files"])) == (9, 13)
    assert found["misfits"] == []
    (problem,) = found["problems"]
    assert problem.startswith(
        "6 label files without a recording left out: examples/xml/train/frame0000007.xml"
    )


def test_a_sheet_without_doubtful_boxes_shows_every_time_once(tmp_path, run):
    labels = dot_labels()
    good = labels.where(np.flatnonzero(labels.track_id == 1))
    twice = make_table(
        np.repeat(good.t, 2), np.repeat(good.xyxy, 2, axis=0) + [[0, 0, 0, 0], [9, 0, 5, 0]] * 3, [0] * 6
    )
    write_labels(tmp_path / "a_bbox.npy", twice, "gen1")
    found = audit_file(tmp_path / "a_bbox.npy", tmp_path / "a_td.dat")
    assert not found.audit.doubtful().any()
    assert [row for _, row, _ in label_sheet._choose([found], 20)] == [0, 2, 4]
    assert [row for _, row, _ in label_sheet._choose([found], 2)] == [0, 4]
