"""HDF5 layouts: the shared suite with files made by h5py alone, damage, ECF, and a real file."""

import io

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from suites.ecf_encoder import FORMS, encode_ecf
from suites.reader_suite import ReaderSuite, random_events, read_chunks

from events.errors import ConfigError, DamagedRecording, EventsError, UnknownFormat
from events.readers.ecf import REASONS, EcfDecoder
from events.readers.registry import open_recording
from events.recording import ReadOptions
from events.writers.hdf5 import PROPHESEE_DTYPE
from events.writers.registry import write_recording


def in_memory(fill) -> bytes:
    """Return the bytes of an HDF5 file that `fill` made."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def columns(events, t="<i8", xy="<u2", p="u1") -> dict[str, np.ndarray]:
    values = {"t": events["t"].astype(t), "x": events["x"].astype(xy), "y": events["y"].astype(xy)}
    return values | {"p": events["p"].astype(p)}


def save(path, fill):
    path.write_bytes(in_memory(fill))
    return path


class Hdf5Suite(ReaderSuite):
    """Of a container that is cut at few bytes; `TestEtram` is cut at every one."""

    format = "hdf5"

    @pytest.mark.parametrize("damage", ["strict", "skip", "salvage"])
    def test_truncation_at_every_byte(self, tmp_path, damage):
        data = self.encode(self.some_events(12, seed=5))
        path = tmp_path / "cut"
        for size in range(0, len(data), 149):
            path.write_bytes(data[:size])
            options = ReadOptions(format=self.format, sensor_hw=self.sensor_hw, damage=damage)
            found, message, _ = self.try_to_read(path, options)
            assert found is None
            assert message.startswith(f"{path}: ")
            assert "byte" in message
            assert "\n" not in message


class TestDsec(Hdf5Suite):
    """Blosc with Zstandard inside, as published; times since an offset."""

    def encode(self, events):
        def fill(file):
            for name, values in columns(events, t="<u4").items():
                file.create_dataset(
                    f"events/{name}",
                    data=values,
                    chunks=(min(1000, len(events)),),
                    **hdf5plugin.Blosc("zstd", 1),
                )
            file["ms_to_idx"] = np.searchsorted(events["t"], np.arange(0, self.span_us, 1000)).astype("<u8")
            file["t_offset"] = np.int64(0)

        return in_memory(fill)


class TestEtram(ReaderSuite):
    format = "hdf5"

    def encode(self, events):
        def fill(file):
            for name, values in columns(events, p="<i2").items():
                file[f"events/{name}"] = values
            file["events/height"], file["events/width"] = np.int64(128), np.int64(128)

        return in_memory(fill)


class TestM3ed(Hdf5Suite):
    def encode(self, events):
        def fill(file):
            for name, values in columns(events).items():
                file.create_dataset(
                    f"prophesee/left/{name}", data=values, compression="gzip", chunks=(min(777, len(events)),)
                )
            file["prophesee/left/calib/resolution"] = np.array([128, 128])

        return in_memory(fill)


class TestSeconds(Hdf5Suite):
    """As evl's: t float seconds, p bool, in a group of any name."""

    def encode(self, events):
        def fill(file):
            for name, values in columns(events, t="<f8", xy="<i4", p=bool).items():
                file[f"raw_events/{name}"] = values / 1e6 if name == "t" else values

        return in_memory(fill)


class TestTonicCache(Hdf5Suite):
    """Records in `data/0`, and a target beside them."""

    def encode(self, events):
        def fill(file):
            records = np.zeros(len(events), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
            for name in "xytp":
                records[name] = events[name]
            file.create_dataset("data/0", data=records, compression="lzf")
            file["target/0"] = 7

        return in_memory(fill)


def prophesee(events) -> np.ndarray:
    records = np.zeros(len(events), PROPHESEE_DTYPE)
    for name in "xypt":
        records[name] = events[name]
    return records


class TestProphesee(Hdf5Suite):
    def encode(self, events):
        def fill(file):
            file.create_dataset("CD/events", data=prophesee(events), chunks=(min(1000, len(events)),))
            file.attrs["geometry"] = "128x128"

        return in_memory(fill)

    def test_what_is_written_is_read_back_in_this_layout_too(self, tmp_path):
        events = self.some_events(40_000)
        write_recording(
            tmp_path / "a",
            iter([events[:9], events[9:]]),
            format="hdf5",
            sensor_hw=(128, 128),
            layout="prophesee",
        )
        recording = open_recording(tmp_path / "a")
        np.testing.assert_array_equal(recording.read(), events)
        assert (recording.sensor_hw, recording.facts["layout"]) == ((128, 128), "Prophesee")
        with h5py.File(tmp_path / "a") as file:
            entries = file["CD/indexes"][()]
        np.testing.assert_array_equal(entries["id"], np.searchsorted(events["t"], entries["ts"]))
        assert entries["ts"][:2].tolist() == [0, 2000]


def ecf_file(events, *, chunk_rows=1000, damage=None) -> bytes:
    """A file of Prophesee's with each chunk compressed by hand; the last is filled up with zeros at t = 0."""

    def fill(file):
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((chunk_rows,))
        created.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((len(events),), (h5py.h5s.UNLIMITED,))
        kind = h5py.h5t.py_create(PROPHESEE_DTYPE, logical=True)
        group = file.create_group("CD")
        found = h5py.h5d.create(group.id, b"events", kind, space, created)
        for number, start in enumerate(range(0, len(events), chunk_rows)):
            part = np.zeros(chunk_rows, events.dtype)
            part[: len(events) - start] = events[start : start + chunk_rows]
            part["t"] = np.maximum.accumulate(part["t"])
            data = encode_ecf(part, FORMS[number % 3])
            found.write_direct_chunk((start,), damage(number, data) if damage else data)
        file.attrs["geometry"] = "128x128"

    return in_memory(fill)


class TestEcf(Hdf5Suite):
    def encode(self, events):
        return ecf_file(events)

    def test_backward_steps_are_kept_and_counted(self, tmp_path):
        """ECF cannot say that time falls."""
        events = self.some_events(50)
        events["t"][20] = 0
        (tmp_path / "a").write_bytes(self.encode(events))
        found = open_recording(tmp_path / "a").read()
        np.testing.assert_array_equal(found["t"], np.maximum.accumulate(events["t"]))

    def test_damaged_chunk_is_left_out_whole(self, tmp_path):
        events = self.some_events(5000)
        cut = ecf_file(events, damage=lambda number, data: data[: len(data) // 2] if number == 2 else data)
        (tmp_path / "a").write_bytes(cut)
        found, report = read_chunks(tmp_path / "a", ReadOptions(), 1300)
        np.testing.assert_array_equal(found, np.delete(events, slice(2000, 3000)))
        assert report["first_damage_byte"] > 0
        assert report["bytes_skipped"] == len(encode_ecf(events[2000:3000], FORMS[2])) // 2
        assert report["notes"] == [
            "events 2000 to 2999 cannot be unpacked and are left out: the chunk ends before its events do"
        ]
        with pytest.raises(DamagedRecording, match=r"byte \d+: events 2000 to 2999 cannot be unpacked"):
            open_recording(tmp_path / "a", ReadOptions(damage="strict")).read()

    def test_chunk_that_the_writer_did_not_compress(self, tmp_path):
        events = self.some_events(1000)

        def fill(file):
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_chunk((1000,))
            created.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
            kind = h5py.h5t.py_create(PROPHESEE_DTYPE, logical=True)
            space = h5py.h5s.create_simple((1000,))
            found = h5py.h5d.create(file.create_group("CD").id, b"events", kind, space, created)
            found.write_direct_chunk((0,), prophesee(events).tobytes(), 1)

        np.testing.assert_array_equal(open_recording(save(tmp_path / "a", fill)).read(), events)


class TestEcfChunk:
    @given(
        seed=st.integers(0, 2**32 - 1),
        n=st.integers(0, 200),
        form=st.sampled_from(FORMS),
        span=st.sampled_from([1, 20, 5000, 2**50]),
        side=st.sampled_from([1, 3, 40, 2047]),
    )
    def test_all_forms(self, seed, n, form, span, side):
        events = random_events(seed, n, sensor_hw=(side, side), span_us=span)
        decoder = EcfDecoder()
        assert decoder.decode(encode_ecf(events, form)) == n
        for name in "txyp":
            np.testing.assert_array_equal(getattr(decoder, name)[:n], events[name])

    @pytest.mark.parametrize("form", FORMS)
    def test_longest_chunk_and_longest_runs(self, form):
        events = random_events(1, 65535, sensor_hw=(1, 2), span_us=1)
        events["p"] = True
        decoder = EcfDecoder()
        assert decoder.decode(encode_ecf(events, form)) == 65535
        np.testing.assert_array_equal(decoder.x[:65535], events["x"])
        assert decoder.p[:65535].all()

    def test_rows_of_neighbours(self):
        """Seven pixels side by side: a mask of five, and then one more."""
        events = random_events(0, 7, sensor_hw=(1, 1), span_us=1)
        events["x"] = np.arange(7) + 10
        events["p"] = True
        chunk = encode_ecf(events, "masks")
        assert chunk[-5:] == bytes([10 << 5 & 0xFF | 31, 10 << 5 >> 8, 16 << 5 & 0xFF, 16 << 5 >> 8, 0x87])
        decoder = EcfDecoder()
        assert decoder.decode(chunk) == 7
        assert decoder.x[:7].tolist() == list(range(10, 17))

    def test_chunk_by_hand(self):
        """Two events at t=0x10203 and one 0x21 us later, one row, masks: the bytes of the published code."""
        chunk = bytes.fromhex("0c000000 0302010000000000 02 f1f2 01 a300 41014001 8301".replace(" ", ""))[:-1]
        decoder = EcfDecoder()
        assert decoder.decode(chunk) == 3
        assert decoder.t[:3].tolist() == [0x10203, 0x10203, 0x10224]
        assert decoder.y[:3].tolist() == [5, 5, 5]
        assert decoder.x[:3].tolist() == [10, 15, 10]
        assert decoder.p[:3].tolist() == [1, 1, 1]

    @pytest.mark.parametrize("form", FORMS)
    def test_every_cut_and_noise_stay_inside(self, form):
        events = random_events(4, 150, sensor_hw=(30, 30), span_us=3000)
        chunk = encode_ecf(events, form)
        decoder = EcfDecoder()
        for size in range(len(chunk)):
            assert decoder.decode(chunk[:size]) in REASONS
        rng = np.random.default_rng(5)
        for _ in range(3000):
            noise = bytearray(chunk)
            for at in rng.integers(0, len(noise), 4):
                noise[at] = rng.integers(0, 256)
            found = decoder.decode(bytes(noise))
            assert found in REASONS or 0 <= found <= 65535


class TestDamage:
    """What is wrong is said in one line that names the file."""

    events = random_events(0, 100, sensor_hw=(20, 20), span_us=5000)

    def refused(self, path, fill, error, message):
        save(path / "a.h5", fill)
        with pytest.raises(error, match=message) as caught:
            open_recording(path / "a.h5").read()
        assert str(caught.value).startswith(f"{path / 'a.h5'}: ")
        assert "\n" not in str(caught.value)

    def test_columns_of_different_length(self, tmp_path):
        def fill(file):
            for name, values in columns(self.events).items():
                file[f"events/{name}"] = values[: 90 if name == "y" else 100]

        message = r"byte \d+: columns of different lengths \(/events/t 100, /events/x 100, /events/y 90"
        self.refused(tmp_path, fill, DamagedRecording, message)

    @pytest.mark.parametrize("values", [[b"a"] * 100, np.zeros((100, 2))[:, 0].astype("c16")])
    def test_wrong_types(self, tmp_path, values):
        def fill(file):
            for name, right in columns(self.events).items():
                file[f"events/{name}"] = values if name == "t" else right

        self.refused(tmp_path, fill, DamagedRecording, r"t in /events/t is of type .*; expected numbers")

    def test_two_dimensions(self, tmp_path):
        def fill(file):
            for name, values in columns(self.events).items():
                file[f"events/{name}"] = values.reshape(10, 10)

        self.refused(
            tmp_path, fill, DamagedRecording, r"/events/t has the shape \(10, 10\); expected one value"
        )

    @pytest.mark.parametrize("missing", ["t", "x", "y", "p"])
    def test_missing_column(self, tmp_path, missing):
        def fill(file):
            for name, values in columns(self.events).items():
                if name != missing:
                    file[f"events/{name}"] = values

        self.refused(tmp_path, fill, UnknownFormat, "an HDF5 file of /events, .*, where no group has events")

    def test_frames_and_nothing(self, tmp_path):
        message = "HDF5 file of /data, where no group has events"
        self.refused(
            tmp_path, lambda file: file.create_dataset("data", (3, 2, 4, 4), "u1"), UnknownFormat, message
        )
        self.refused(tmp_path, lambda file: None, UnknownFormat, "an HDF5 file of nothing, where no group")

    def test_more_rows_than_stored(self, tmp_path):
        """A file of a kilobyte cannot claim a billion events."""

        def fill(file):
            for name, values in columns(self.events).items():
                found = file.create_dataset(f"events/{name}", data=values, chunks=(50,), maxshape=(None,))
                found.resize((10**9,))

        self.refused(tmp_path, fill, DamagedRecording, "/events/t: 19999998 of 20000000 chunks are missing")

    def test_chunks_larger_than_memory(self, tmp_path):
        with h5py.File(tmp_path / "small.h5", "w") as file:
            for name in "txyp":
                file.create_dataset(f"events/{name}", (0,), "i8", chunks=(1 << 28,), maxshape=(None,))
        with pytest.raises(DamagedRecording, match="chunks of 268435456 values; expected at most 256 MiB"):
            open_recording(tmp_path / "small.h5")

    def test_links_out_of_the_file_are_not_followed(self, tmp_path):
        save(
            tmp_path / "b.h5",
            lambda file: [file.create_dataset(f"e/{n}", data=v) for n, v in columns(self.events).items()],
        )
        fill = lambda file: file.__setitem__("events", h5py.ExternalLink(str(tmp_path / "b.h5"), "/e"))  # noqa: E731
        self.refused(tmp_path, fill, UnknownFormat, "where no group has events")

    def test_damaged_chunk_costs_only_its_events(self, tmp_path):
        events = random_events(1, 5000, sensor_hw=(20, 20), span_us=5000)

        def fill(file):
            for name, values in columns(events).items():
                file.create_dataset(f"events/{name}", data=values, chunks=(500,), compression="gzip")

        path = save(tmp_path / "a.h5", fill)
        with h5py.File(path) as file:
            place = file["events/x"].id.get_chunk_info_by_coord((1500,))
        data = bytearray(path.read_bytes())
        data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
        path.write_bytes(data)
        found, report = read_chunks(path, ReadOptions(), 800)
        np.testing.assert_array_equal(found, np.delete(events, slice(1500, 2000)))
        assert report["events"] == 4500
        assert report["first_damage_byte"] is not None
        assert "events 1500 to 1999 cannot be unpacked and are left out" in report["notes"][0]
        with pytest.raises(DamagedRecording, match=r"byte \d+: events 1500 to 1999 cannot be unpacked"):
            open_recording(path, ReadOptions(damage="strict")).read()

    def test_unknown_filter_is_named(self, tmp_path, monkeypatch):
        save(
            tmp_path / "a.h5",
            lambda file: [
                file.create_dataset(f"events/{n}", data=v, chunks=(50,), **hdf5plugin.Zstd())
                for n, v in columns(self.events).items()
            ],
        )
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
        with pytest.raises(
            EventsError, match=r"/events/t is compressed with Zstandard.*pip install hdf5plugin"
        ):
            open_recording(tmp_path / "a.h5")

    def test_missing_h5py_is_said(self, tmp_path, monkeypatch):
        save(tmp_path / "a.h5", lambda file: None)
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(EventsError, match="HDF5 files need h5py; install it with: pip install h5py"):
            open_recording(tmp_path / "a.h5")


def test_dsec_offset_is_added_and_said(tmp_path):
    events = random_events(2, 300, sensor_hw=(480, 640), span_us=100_000)

    def fill(file):
        for name, values in columns(events, t="<u4").items():
            file[f"events/{name}"] = values
        file["t_offset"] = np.int64(51_648_434_999)

    recording = open_recording(save(tmp_path / "a", fill))
    np.testing.assert_array_equal(recording.read()["t"], events["t"] + 51_648_434_999)
    assert recording.facts["t_offset_us"] == 51_648_434_999


def test_dsec_written_with_its_index(tmp_path):
    events = random_events(3, 30_000, sensor_hw=(48, 64), span_us=300_000)
    events["t"] += 1_700_000_000_000_000
    write_recording(tmp_path / "a", events, format="hdf5", sensor_hw=(48, 64))
    recording = open_recording(tmp_path / "a")
    np.testing.assert_array_equal(recording.read(), events)
    assert recording.sensor_hw == (48, 64)
    with h5py.File(tmp_path / "a") as file:
        t, index, offset = file["events/t"][()], file["ms_to_idx"][()], int(file["t_offset"][()])
    assert offset == int(events["t"][0]) - 1_000_000
    np.testing.assert_array_equal(index, np.searchsorted(t, np.arange(len(index)) * 1000))
    assert len(index) == int(t[-1]) // 1000 + 1


def test_times_too_far_apart_are_refused(tmp_path):
    events = random_events(3, 3, sensor_hw=(4, 4), span_us=3)
    events["t"] = [0, 5, 1 << 33]
    for layout, message in (
        ("dsec", "do not fit DSEC's layout of HDF5"),
        ("other", "layout 'other' has no writer"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_recording(tmp_path / "a", events, format="hdf5", sensor_hw=(4, 4), layout=layout)
        assert not (tmp_path / "a").exists()


def two_cameras(file):
    for camera, seed in (("right", 1), ("left", 2)):
        for name, values in columns(random_events(seed, 10, sensor_hw=(9, 9), span_us=99)).items():
            file[f"prophesee/{camera}/{name}"] = values
        file[f"prophesee/{camera}/calib/resolution"] = np.array([1280, 720])


@pytest.mark.parametrize(("stream", "seed"), [(None, 2), (0, 2), (1, 1)])
def test_left_camera_is_read_unless_the_other_is_wanted(tmp_path, stream, seed):
    save(tmp_path / "a", two_cameras)
    recording = open_recording(tmp_path / "a", ReadOptions(stream=stream))
    np.testing.assert_array_equal(recording.read(), random_events(seed, 10, sensor_hw=(9, 9), span_us=99))
    assert recording.sensor_hw == (720, 1280)
    left, right = "/prophesee/left", "/prophesee/right"
    expected = (
        f"the events of {right} are not read, only those of {left}; stream 1 is these"
        if seed == 2
        else f"the events of {left} are not read, only those of {right}; stream 0 is these"
    )
    assert recording.report.notes == [expected]


def test_stream_that_is_not_there(tmp_path):
    save(tmp_path / "a", two_cameras)
    message = "stream 2 holds no events; the streams are 0 /prophesee/left, 1 /prophesee/right"
    with pytest.raises(ConfigError, match=message):
        open_recording(tmp_path / "a", ReadOptions(stream=2))


@pytest.mark.parametrize("suite", [TestDsec, TestEtram, TestSeconds, TestProphesee, TestEcf])
def test_start_at_a_time(tmp_path, suite):
    events = suite().some_events(5000)
    events["t"][700:2300] = events["t"][700]  # one time over several chunks
    (tmp_path / "a").write_bytes(suite().encode(events))
    recording = open_recording(tmp_path / "a", suite().options)
    t = events["t"]
    for t_us in (
        -5,
        int(t[0]),
        int(t[0]) + 1,
        int(t[700]),
        int(t[700]) + 1,
        int(t[3000]),
        int(t[-1]),
        1 << 40,
    ):
        rest = recording.start_at(t_us)
        np.testing.assert_array_equal(rest.read(), events[t >= t_us])
        assert rest.report.notes == [f"the {np.count_nonzero(t < t_us)} events before {t_us} us are not read"]
    np.testing.assert_array_equal(recording.read(), events)


def test_triggers_of_prophesee(tmp_path):
    def fill(file):
        file["CD/events"] = prophesee(random_events(2, 10, sensor_hw=(9, 9), span_us=99))
        edges = [(1, 500, 2), (0, 700, 2)]
        file["EXT_TRIGGER/events"] = np.array(edges, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])

    triggers = open_recording(save(tmp_path / "a", fill)).triggers()
    assert triggers.tolist() == [(500, 2, True), (700, 2, False)]


def test_real_file_of_seconds(samples):
    recording = open_recording(samples("hdf5/evl_event.hdf5"))
    events = recording.read()
    assert recording.facts["layout"] == "columns of /raw_events"
    assert len(events) == 17
    assert events[[0, 1, -1]].tolist() == [(0, 134, 30, False), (780, 59, 158, False), (5748, 74, 181, False)]
