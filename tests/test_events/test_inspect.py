"""What `events info` says, against recordings whose content is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.registry import list_samples
from events.errors import EventsError, StoreError
from events.inspect.recording import recording_info
from events.inspect.show import format_info
from events.inspect.store import store_info
from events.inspect.text import one_line
from events.recording import EVENT_DTYPE, TRIGGER_DTYPE, FileReport, Recording
from events.writers.registry import write_recording


def some_events(n=3_000, seed=0):
    rng = np.random.default_rng(seed)
    events = np.zeros(n, EVENT_DTYPE)
    events["t"] = np.sort(rng.integers(1_000, 500_000, n))
    events["x"], events["y"] = rng.integers(0, 128, n), rng.integers(0, 128, n)
    events["p"] = rng.random(n) < 0.25
    return events


def write(path, events, format="aedat2", sensor_hw=(128, 128)):
    write_recording(path, events, format=format, sensor_hw=sensor_hw)
    return path


def test_counts_times_and_rates_of_a_recording(tmp_path):
    events = np.zeros(5, EVENT_DTYPE)
    events["t"] = [2_000, 2_100, 2_900, 3_100, 12_000]
    events["x"], events["p"] = [0, 0, 1, 1, 2], [1, 0, 1, 1, 1]
    info = recording_info(write(tmp_path / "a.aedat", events))
    assert info["format"] == "aedat2"
    assert info["sensor"] == {"height": 128, "width": 128}
    assert (info["events"], info["on"], info["off"], info["on_share"]) == (5, 4, 1, 0.8)
    assert (info["t_first_us"], info["latest_us"], info["duration_us"]) == (2_000, 12_000, 10_000)
    assert info["mean_rate_hz"] == 500.0  # 5 events in 10 ms
    assert (info["peak_events_per_ms"], info["peak_at_ms"]) == (3, 0)  # 2000 to 2999
    assert info["active_pixels"] == 3
    assert info["hot_pixels"] == 0
    assert not info["damaged"]
    assert json.loads(json.dumps(info)) == info


def test_the_busiest_millisecond_may_lie_across_two_chunks(tmp_path):
    # More events than a chunk holds, all within one millisecond around the border of the first chunk.
    border = 1 << 20
    events = np.zeros(border + 40, EVENT_DTYPE)
    events["t"] = np.arange(len(events)) * 5
    events["t"][border - 300 :] = events["t"][border - 300]
    expected = np.bincount(events["t"] // 1000).max()
    assert expected >= 340
    info = recording_info(write(tmp_path / "a.aedat", events))
    assert info["peak_events_per_ms"] == expected


def test_a_hot_pixel_is_found(tmp_path):
    events = np.concatenate([some_events(), some_events(400, seed=1)])
    events["x"][3_000:], events["y"][3_000:] = 17, 90
    events = events[np.argsort(events["t"], kind="stable")]
    info = recording_info(write(tmp_path / "a.aedat", events))
    assert info["hot_pixels"] == 1
    hottest = info["hottest_pixels"][0]
    assert (hottest["x"], hottest["y"]) == (17, 90)
    assert hottest["events"] >= 400
    assert f"x=17 y=90 ({hottest['events']:,})" in format_info(info)


def test_damage_and_a_clock_that_steps_back_are_told(tmp_path):
    events = some_events()
    events["t"][1_500:] -= 40_000
    path = write(tmp_path / "a.aedat", events)
    path.write_bytes(path.read_bytes()[:-3])
    info = recording_info(path)
    assert info["events"] == 2_999
    assert info["report"]["backward_steps"] == 1
    assert info["report"]["partial_records"] == 1
    text = format_info(info)
    assert "1 backward steps, the largest " in text
    assert "1 partial record at the end, first at byte" in text


def test_a_recording_without_events(tmp_path):
    info = recording_info(write(tmp_path / "a.aedat", np.empty(0, EVENT_DTYPE)))
    assert info["events"] == 0
    assert info["mean_rate_hz"] is None
    assert info["on_share"] is None
    assert "events" in format_info(info)


def test_digests_of_real_recordings_are_those_of_other_decoders(samples):
    name = "aedat2/alexouyang_alex_walking_again.aedat"
    expected = json.loads(samples("digests.json").read_text())[name]
    info = recording_info(samples(name), digest=True)
    assert (info["events"], info["on"]) == (expected["events"], expected["on"])
    for field in ("t", "x", "y", "p"):
        assert info["digest"][field] == expected[field]


def test_a_sensor_too_large_to_count_its_pixels(tmp_path):
    """A damaged header may claim 65,535 x 65,535 pixels: 32 GiB of counts."""
    data = write(tmp_path / "a.es", some_events(), "es").read_bytes()
    (tmp_path / "a.es").write_bytes(data[:16] + b"\xff" * 4 + data[20:])
    info = recording_info(tmp_path / "a.es")
    assert (info["pixels"], info["active_pixels"], info["hot_pixels"]) == (65_535**2, None, None)
    assert "4,294,836,225, too many to count" in format_info(info)


def test_a_file_that_is_no_recording_is_refused(tmp_path):
    with pytest.raises(EventsError, match=r"missing\.aedat"):
        recording_info(tmp_path / "missing.aedat")


@pytest.fixture
def store(tmp_path):
    for number in range(6):
        for name in ("zero", "one"):
            (tmp_path / "src" / name).mkdir(parents=True, exist_ok=True)
            write(tmp_path / "src" / name / f"made_{name}_{number}.aedat", some_events(seed=number))
    (tmp_path / "src" / "one" / "made_one_5.aedat").write_bytes(b"#!AER-DAT2.0\r\n")
    listing = list_samples("dvs-cifar10", tmp_path / "src", split="random:0:0.5")
    convert(listing, tmp_path / "made.zarr", ConvertSettings(binning=BinSettings(frames=4), shard_samples=4))
    return tmp_path / "made.zarr"


def test_what_is_in_a_store(store):
    info = store_info(store)
    assert info["complete"]
    assert info["shape"] == [12, 4, 2, 128, 128]
    assert info["dtype"] == "uint8"
    assert info["samples"] == {"ok": 11, "failed": 1, "missing": 0}
    assert (info["shards"], info["shards_present"], info["shards_missing"]) == (3, 3, 0)
    assert info["raw_bytes"] == 11 * 4 * 2 * 128 * 128
    assert info["ratio"] > 5
    assert info["events"] == 11 * 3_000
    assert {name: sum(splits.values()) for name, splits in info["classes"].items()} == {"zero": 6, "one": 5}
    assert info["failed_files"][0]["path"] == "one/made_one_5.aedat"
    assert json.loads(json.dumps(info)) == info
    text = format_info(info)
    assert "11 ok, 1 failed" in text
    assert "3 of 3, 4 samples each" in text
    assert "one/made_one_5.aedat" in text


def test_missing_shards_of_a_store_are_named(store):
    (store / "frames" / "c.1.0.0.0.0").unlink()
    info = store_info(store)
    assert (info["shards_present"], info["first_missing_shards"]) == (2, [1])
    assert "2 of 3, 4 samples each; missing 1" in format_info(info)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="expected a store; make one with `events convert`"):
        store_info(tmp_path)


class WithTriggers(Recording):
    """Three events, three edges, and a report of what else was in the file."""

    path, format, sensor_hw, facts = Path("made"), "aedat2", (128, 128), {}

    def decode_chunks(self, *, max_events=1 << 20):
        self.report = FileReport("made", "aedat2", other_packets=12, invalid_events=3, unknown_words=4)
        yield some_events(3)

    def triggers(self):
        return np.array([(700, 2, True), (500, 0, True), (900, 2, False)], TRIGGER_DTYPE)


def test_triggers_and_what_else_is_in_a_file(monkeypatch):
    monkeypatch.setattr("events.inspect.recording.open_named", lambda path, options: WithTriggers())
    info = recording_info("made")
    assert info["triggers"] == [
        {"channel": 0, "rising": 1, "falling": 0, "t_first_us": 500, "t_last_us": 500},
        {"channel": 2, "rising": 1, "falling": 1, "t_first_us": 700, "t_last_us": 900},
    ]
    text = format_info(info)
    assert "channel 2: 1 rising, 1 falling, 700 to 900 us" in text
    assert "3 events marked invalid, 12 packets of other kinds or streams" in text
    assert "4 words of an unknown type" in text
    assert json.loads(json.dumps(info)) == info


def test_facts_of_a_header_are_read_by_people():
    streams = [{"number": 0, "kind": "EVTS", "sensor_hw": [240, 320]}, {"number": 2, "sensor_hw": None}]
    assert one_line(streams) == "number 0, kind EVTS, sensor_hw 240 x 320; number 2"
    assert one_line(["a  comment", "another"]) == "a comment; another"
    assert one_line("x" * 300) == "x" * 197 + "..."
