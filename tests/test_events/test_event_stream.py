"""Event Stream `.es`: the shared suite with bytes made by hand, damage, and the real recordings."""

import json
import struct

import numpy as np
import pytest
from suites.reader_suite import ReaderSuite, read_chunks

from events.errors import ConfigError, DamagedRecording, UnknownFormat
from events.readers.registry import open_recording
from events.recording import EventDigest, ReadOptions
from events.writers.registry import write_recording

HEIGHT, WIDTH = 100, 128


def header(kind: int = 1) -> bytes:
    return b"Event Stream\x02\x00\x00" + struct.pack("<BHH", kind, WIDTH, HEIGHT)


def encode_dvs(events, t: int = 0) -> bytes:
    """Events without a header; `t` is the time before the first."""
    parts = []
    for event in events:
        step = int(event["t"]) - t
        t += step
        parts.append(b"\xff" * (step // 127))
        parts.append(
            struct.pack("<BHH", step % 127 * 2 + event["p"], event["x"], HEIGHT - 1 - int(event["y"]))
        )
    return b"".join(parts)


class OnlyForward(ReaderSuite):
    """Of a format whose clock cannot fall."""

    format = "es"
    sensor_hw = (HEIGHT, WIDTH)
    span_us = 400_000

    def test_backward_steps_are_kept_and_counted(self, tmp_path):
        events = self.some_events(30)
        events["t"][20] = 0
        with pytest.raises(ConfigError, match=r"time falls by \d+ us at t=0"):
            write_recording(tmp_path / "a", events, format="es", sensor_hw=self.sensor_hw)
        assert not (tmp_path / "a").exists()


class TestDvs(OnlyForward):
    def encode(self, events):
        return header() + encode_dvs(events)


class TestDense(TestDvs):
    """So many events that hardly a byte only counts time."""

    record_bytes = 5
    span_us = 900

    def some_events(self, n, seed=0):
        events = super().some_events(n, seed)
        events["t"] = np.arange(n) * 126 if n < 100 else events["t"]
        return events


class TestAtis(OnlyForward):
    """Overflows of all lengths, and an exposure measurement between any two events."""

    def encode(self, events):
        parts, t = [header(2)], 0
        for event in events:
            step = int(event["t"]) - t
            t += step
            parts.append(b"\xfc" + b"\xff" * (step // 189) + (b"", b"\xfd", b"\xfe")[step % 189 // 63])
            place = struct.pack("<HH", event["x"], HEIGHT - 1 - int(event["y"]))
            parts.append(bytes([step % 63 << 2 | 2 * int(event["p"])]) + place)
        return b"".join(parts)


def test_atis_by_hand(tmp_path):
    """Kinds 00 OFF, 01 exposure start, 10 ON, 11 exposure end; their times count all the same."""
    data = header(2) + b"\xff" + b"\x28\x01\x00\x00\x00" + b"\x09\x02\x00\x00\x00"
    data += b"\x0b\x02\x00\x00\x00" + b"\xfd" + b"\x06\x7f\x00\x63\x00"
    (tmp_path / "a").write_bytes(data)
    recording = open_recording(tmp_path / "a")
    # 3 * 63 + 10, then 2 + 2 of the exposures + 63 + 1.
    assert recording.read().tolist() == [(199, 1, 99, False), (267, 127, 0, True)]
    assert recording.report.special_events == 2
    assert recording.facts["type"] == "ATIS"
    assert "flipped" in recording.facts["origin"]


def test_dvs_by_hand_with_a_byte_that_does_nothing(tmp_path):
    (tmp_path / "a").write_bytes(header() + b"\xff\xfe\xff" + b"\xfd\x03\x00\x01\x00")
    assert open_recording(tmp_path / "a").read().tolist() == [(2 * 127 + 126, 3, 98, True)]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (
            header(0),
            UnknownFormat,
            r"byte 15: an Event Stream of type 0 \(generic\), which has no ON and OFF",
        ),
        (header(4), UnknownFormat, r"byte 15: an Event Stream of type 4 \(color\), which has no ON and OFF"),
        (header(9), UnknownFormat, r"byte 15: an Event Stream of type 9 \(unknown type 9\)"),
        (
            b"Event Stream\x01\x00\x00" + header()[15:],
            UnknownFormat,
            "byte 12: Event Stream 1.0.0; expected 2",
        ),
        (header()[:17], DamagedRecording, "byte 17: the file ends in its header"),
        (header()[:16] + bytes(4), DamagedRecording, "byte 16: sensor of 0x0; expected at least one pixel"),
    ],
)
def test_other_types_versions_and_headers_are_refused(tmp_path, data, error, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        open_recording(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_header_alone_is_a_recording_of_no_events(tmp_path):
    (tmp_path / "a").write_bytes(header())
    recording = open_recording(tmp_path / "a")
    assert len(recording.read()) == 0
    assert not recording.report.damaged


class TestDamage:
    @pytest.fixture
    def events(self):
        return TestDense().some_events(4000)

    def test_pixel_outside_the_sensor_keeps_its_time(self, tmp_path, events):
        data = bytearray(header() + encode_dvs(events))
        start = len(header() + encode_dvs(events[:1500]))
        step = int(events["t"][1500] - events["t"][1499]) // 127
        data[start + step + 2] = 0xFF  # x becomes 65,280 and more
        (tmp_path / "a").write_bytes(data)
        for damage in ("skip", "salvage"):
            found, report = read_chunks(tmp_path / "a", ReadOptions(damage=damage), 700)
            np.testing.assert_array_equal(found, np.delete(events, 1500))
            assert (report["out_of_sensor"], report["bytes_skipped"]) == (1, 0)
            assert report["first_damage_byte"] == start + step
        with pytest.raises(DamagedRecording, match=rf"byte {start + step}: x=65\d+, y=.* sensor of 100x128"):
            open_recording(tmp_path / "a", ReadOptions(damage="strict")).read()

    def test_strict_delivers_what_precedes_the_damage(self, tmp_path, events):
        good = header() + encode_dvs(events[:1500])
        (tmp_path / "a").write_bytes(good + b"\x00\xff\xff\xff\xff" * 3)
        chunks = open_recording(tmp_path / "a", ReadOptions(damage="strict")).chunks(count=1000)
        np.testing.assert_array_equal(next(chunks), events[:1000])
        with pytest.raises(DamagedRecording, match=f"byte {len(good)}:"):
            list(chunks)

    def test_salvage_finds_the_step_after_missing_bytes(self, tmp_path, events):
        """One recording without three bytes: at once in step again, and no event there that is not in it."""
        cut = len(header() + encode_dvs(events[:2000]))
        data = header() + encode_dvs(events)
        (tmp_path / "a").write_bytes(data[: cut + 1] + data[cut + 4 :])
        found, report = read_chunks(tmp_path / "a", ReadOptions(damage="salvage"), 999)
        assert len(events) - 12 <= len(found) < len(events)
        np.testing.assert_array_equal(found[:1990], events[:1990])
        for name in ("x", "y", "p"):
            np.testing.assert_array_equal(found[name][-1980:], events[name][-1980:])
        assert 0 < report["bytes_skipped"] < 60
        assert "bytes were passed over" in report["notes"][0]
        again, other = read_chunks(tmp_path / "a", ReadOptions(damage="salvage"), 1)
        np.testing.assert_array_equal(found, again)
        assert other == report

    @pytest.mark.parametrize("damage", ["skip", "salvage"])
    def test_noise_ends_and_nothing_is_outside_the_sensor(self, tmp_path, damage):
        noise = np.random.default_rng(3).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
        (tmp_path / "a").write_bytes(header() + noise)
        found, report = read_chunks(tmp_path / "a", ReadOptions(damage=damage), 5000)
        assert np.all((found["x"] < WIDTH) & (found["y"] < HEIGHT))
        assert report["bytes_read"] + report["bytes_skipped"] + 5 > report["bytes_total"]
        assert report["out_of_sensor"] > 0


def test_writer_refuses_times_that_would_fill_the_disk(tmp_path):
    events = TestDvs().some_events(5)
    events["t"] += 1_700_000_000_000_000
    with pytest.raises(ConfigError, match=r"do not fit Event Stream, which holds 0 to .*subtract the first"):
        write_recording(tmp_path / "a", events, format="es", sensor_hw=(HEIGHT, WIDTH))


def test_digest_of_independent_decoders(samples):
    expected = json.loads(samples("digests.json").read_text())["es/dvs.es"]
    expected.pop("independent_decoders")
    recording = open_recording(samples("es/dvs.es"))
    digest = EventDigest()
    for chunk in recording.chunks(count=10_000):
        digest.update(chunk)
    assert digest.as_dict() == expected
    assert (recording.format, recording.sensor_hw, recording.report.damaged) == ("es", (240, 320), False)


def test_writing_the_real_recording_gives_its_own_bytes(samples, tmp_path):
    recording = open_recording(samples("es/dvs.es"))
    write_recording(tmp_path / "a", recording.chunks(), format="es", sensor_hw=recording.sensor_hw)
    np.testing.assert_array_equal(open_recording(tmp_path / "a").read(), recording.read())
    ours, theirs = (tmp_path / "a").read_bytes(), samples("es/dvs.es").read_bytes()
    assert ours == theirs


def test_generic_stream_is_named(samples):
    with pytest.raises(UnknownFormat, match=r"generic\.es: byte 15: an Event Stream of type 0 \(generic\)"):
        open_recording(samples("es/generic.es"))
