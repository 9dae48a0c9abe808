"""Real recordings: what independent public decoders agree on, and golden vectors."""

import json

import numpy as np
import pytest

from events.readers.registry import identify, open_recording
from events.recording import EventBuffer, EventDigest, ReadOptions

DIGESTED = [
    *(f"aedat2/{name}.aedat" for name in ("alexouyang_alex_walking_again", "alexouyang_neal_walking")),
    *(f"aedat2/{name}.aedat" for name in ("iliis_checkerboard_1", "iliis_checkerboard_2")),
    *(f"dvsgesture/b{number}.bs2" for number in range(1, 8)),
    "ncaltech101/faces_easy_0001.bin",
    *("dat/faery_gen4_first300k.dat", "dat/tonic_sample_ncars.dat", "evt2/faery_evt2.raw"),
]


@pytest.mark.parametrize("name", DIGESTED)
def test_digest_of_independent_decoders(samples, name):
    expected = json.loads(samples("digests.json").read_text())[name]
    expected.pop("independent_decoders")
    recording = open_recording(samples(name))
    digest = EventDigest()
    for chunk in recording.chunks(count=10_000):
        digest.update(chunk)
    assert digest.as_dict() == expected
    report = recording.report
    assert (report.events, report.damaged, report.backward_steps, report.wraps) == (
        expected["events"],
        False,
        0,
        0,
    )


def test_digest_of_evt3_whose_clock_wraps(samples):
    expected = json.loads(samples("digests.json").read_text())["evt3/faery_evt3.raw"]
    expected.pop("independent_decoders")
    recording = open_recording(samples("evt3/faery_evt3.raw"))
    assert recording.sensor_hw == (720, 1280)
    for count in (None, 9999):
        digest = EventDigest()
        for chunk in recording.chunks(count=count):
            digest.update(chunk)
        assert digest.as_dict() == expected
    report = recording.report
    assert (report.wraps, report.backward_steps, report.damaged) == (1, 0, False)
    assert len(recording.triggers()) == 0


def test_every_nmnist_recording_is_counted(samples):
    paths = sorted(samples("nmnist").glob("*.bs2"))
    buffer = EventBuffer()
    counts = []
    for path in paths:
        recording = open_recording(path)
        assert recording.format == "bin40"
        events = recording.read_into(buffer)
        counts.append(len(events))
        assert not recording.report.damaged
        assert recording.report.special_events == 0
        assert recording.sensor_hw == (34, 34)
    assert (len(paths), sum(counts), min(counts), max(counts)) == (1100, 4_518_827, 1069, 7152)
    assert np.median(counts) == 4163.5


def test_headerless_aedat1_of_a_cochlea_is_read_and_says_so(samples):
    path = samples("aedat1/sound_mono_32ch_ONOFF_addr2b_ts02.aedat")
    assert identify(path) == "aedat1"
    recording = open_recording(path, ReadOptions(orientation="raw", polarity="raw"))
    events = recording.read()
    records = np.frombuffer(path.read_bytes(), [("address", ">u2"), ("time", ">u4")])
    assert len(events) == 49_864
    np.testing.assert_array_equal(events["t"], records["time"])
    np.testing.assert_array_equal(events["x"], records["address"] >> 1)
    np.testing.assert_array_equal(events["p"], records["address"] & 1)
    assert "no version line" in recording.facts["note"]


def test_header_of_a_davis_without_events(samples):
    recording = open_recording(samples("aedat2/tonic_sample_aedat_header.aedat"))
    assert len(recording.read()) == 0
    assert recording.sensor_hw == (260, 346)
    assert recording.facts["chip"] == "eu.seebetter.ini.chips.davis.Davis346red"
    assert recording.report.notes == ["no events: no whole record in the file"]


def test_pedro_windows_need_their_columns_named(samples):
    path = next(samples("pedro").rglob("*.npy"))
    with pytest.raises(Exception, match="4 columns without names, so order and unit of time are unknown"):
        open_recording(path)
    array = np.load(path)
    events = open_recording(path, ReadOptions(columns="t:us,x,y,p", sensor_hw=(260, 346))).read()
    np.testing.assert_array_equal(events["t"], array[:, 0])
    np.testing.assert_array_equal(events["y"], array[:, 2])


def test_golden_5byte_records(golden, tmp_path):
    vector = np.load(golden("lt_spquant/data_decode_5byte.npz"))
    (tmp_path / "a").write_bytes(vector["raw"].tobytes())
    recording = open_recording(tmp_path / "a")
    events = recording.read()
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(events[name], vector[name])
    assert recording.report.special_events == 1  # the overflow marker


def test_golden_aedat2_records(golden, tmp_path):
    vector = np.load(golden("lt_spquant/data_decode_aedat2.npz"))
    (tmp_path / "a").write_bytes(vector["raw"].tobytes())
    events = open_recording(tmp_path / "a", ReadOptions(orientation="raw", polarity="raw")).read()
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(events[name], vector[name])
    mapped = open_recording(tmp_path / "a", ReadOptions(orientation="dat2mat")).read()
    np.testing.assert_array_equal(mapped["x"], vector["x_cifar"])
    np.testing.assert_array_equal(mapped["p"], vector["p_cifar"])
