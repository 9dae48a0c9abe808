"""Static pictures: MNIST, CIFAR and class folders as they are published, and what is refused."""

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from events.batches import Feed, FeedSettings
from events.binning.settings import BinSettings
from events.convert import ConvertSettings, convert
from events.datasets.images.digits import write_digit_pictures
from events.datasets.images.mnist import read_idx
from events.datasets.images.picture import fit
from events.datasets.images.plain_pickle import read_plain_pickle
from events.datasets.registry import list_samples
from events.draw import draw_frame, draw_sheet, half_blocks
from events.errors import ConfigError, DamagedRecording, DatasetError
from events.inspect.store import store_info, store_rows
from events.store.check import check_store
from events.store.reader import open_store

PICTURES = np.random.default_rng(7).integers(0, 256, (60, 3072), np.uint8)
LABELS = [label % 10 for label in range(60)]


def idx_bytes(values: np.ndarray) -> bytes:
    """Return an IDX file written by hand: two zeros, type 8, axes, big-endian lengths, values."""
    lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
    return bytes([0, 0, 8, values.ndim]) + lengths + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, packed: bool) -> np.ndarray:
    """Write 20 pictures for training and 10 for testing, 5 x 4 pixels; return all of them."""
    images = PICTURES[:30, :20].reshape(30, 5, 4)
    folder.mkdir(parents=True)
    for stem, part in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        for name, values in (("images-idx3", images[part]), ("labels-idx1", np.array(LABELS[:30])[part])):
            content = idx_bytes(values)
            path = folder / f"{stem}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return images


def cifar10_batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Return the six files of a CIFAR-10 of ten pictures each."""
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    rows = [slice(10 * k, 10 * k + 10) for k in range(6)]
    return {name: (PICTURES[row], LABELS[row]) for name, row in zip(names, rows, strict=True)}


def write_cifar10(folder: Path, layout: str) -> None:
    """Write CIFAR-10 as `python` or `binary` files, or packed with `.tar.gz` behind it."""
    folder.mkdir(parents=True)
    files = {}
    for name, (images, labels) in cifar10_batches().items():
        if layout.startswith("python"):
            files[name] = pickle.dumps({b"data": images, b"labels": labels}, protocol=2)
        else:
            records = np.concatenate([np.array(labels, np.uint8)[:, None], images], axis=1)
            files[f"{name}.bin"] = records.tobytes()
    if not layout.endswith(".tar.gz"):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return
    with tarfile.open(folder / f"cifar-10-{layout}", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def store_of(dataset: str, root: Path, dst: Path, size_hw: tuple[int, int] | None = None, **listing: object):
    """Convert a folder of pictures and open the store."""
    settings = ConvertSettings(binning=BinSettings(frames=1, size_hw=size_hw))
    summary = convert(list_samples(dataset, root, **listing), dst, settings)
    return summary, open_store(dst)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_as_published_becomes_frames_of_one_step(tmp_path, packed):
    images = write_mnist(tmp_path / "MNIST" / "raw", packed=packed)
    _, store = store_of("mnist", tmp_path, tmp_path / "m.zarr")
    assert store.shape == (30, 1, 1, 5, 4)
    assert store.planes == ("grey",)
    assert store.class_names == tuple("0123456789")
    assert len(store.indices("train")) == 20
    assert len(store.indices("test")) == 10
    paths = store.source_paths()
    for position in range(30):
        part, number = paths[store.source_index[position]].split("/")
        place = int(number) + (20 if part == "test" else 0)
        np.testing.assert_array_equal(store.read(position)[0, 0], images[place])
        assert store.label[position] == LABELS[place]


@pytest.mark.parametrize("layout", ["python", "python.tar.gz", "binary", "binary.tar.gz"])
def test_cifar10_in_each_published_form(tmp_path, layout):
    write_cifar10(tmp_path / "c", layout)
    _, store = store_of("cifar10", tmp_path / "c", tmp_path / "c.zarr")
    assert store.shape == (60, 1, 3, 32, 32)
    assert store.class_names[:2] == ("airplane", "automobile")
    position = list(store.source_index).index(store.source_paths().index("test/3"))
    np.testing.assert_array_equal(store.read(position)[0].ravel(), PICTURES[53])
    assert (store.label[position], store.split[position]) == (3, 2)
    report = check_store(tmp_path / "c.zarr", against=tmp_path / "c")
    assert report.problems == []
    assert report.recordings_compared == 60


def test_cifar100_takes_fine_labels_and_its_own_names(tmp_path):
    names = [f"class{label}" for label in range(100)]
    fine, coarse = [99, 0, 42], [1, 2, 3]
    for stem in ("train", "test"):
        batch = {b"data": PICTURES[:3], b"fine_labels": fine, b"coarse_labels": coarse}
        (tmp_path / stem).write_bytes(pickle.dumps(batch, protocol=2))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [n.encode() for n in names]}, 2))
    listing = list_samples("cifar100", tmp_path)
    assert listing.class_names == tuple(names)
    assert [sample.label for sample in listing.samples if sample.split == "train"] == [0, 42, 99]


def test_cifar100_binary_takes_the_second_label(tmp_path):
    record = bytes([3, 77]) + PICTURES[0].tobytes()
    for stem in ("train", "test"):
        (tmp_path / f"{stem}.bin").write_bytes(record)
    listing = list_samples("cifar100", tmp_path)
    assert [sample.label for sample in listing.samples] == [77, 77]
    assert any("numbers stand for them" in line for line in listing.problems)


def write_folder(root: Path, parts: tuple[str, ...], suffix: str, hw: tuple[int, int] = (20, 31)) -> None:
    for part in parts:
        for colour, name in enumerate(("red", "green")):
            folder = root / part / name
            folder.mkdir(parents=True)
            pixels = np.zeros((*hw, 3), np.uint8)
            pixels[..., colour] = 255
            for number in range(2):
                Image.fromarray(pixels).save(folder / f"image_{number}{suffix}")


def test_imagenet_tests_on_its_validation_pictures(tmp_path):
    write_folder(tmp_path / "i", ("train", "val"), ".JPEG")
    _, store = store_of("imagenet", tmp_path / "i", tmp_path / "i.zarr", size_hw=(8, 8))
    assert store.shape == (8, 1, 3, 8, 8)
    assert store.class_names == ("green", "red")
    assert len(store.indices("train")) == len(store.indices("test")) == 4
    red = store.read(int(np.flatnonzero(store.label == 1)[0]))[0]
    assert red[0].min() > 250
    assert red[1:].max() < 5
    assert check_store(tmp_path / "i.zarr", against=tmp_path / "i").problems == []


def test_caltech101_leaves_out_its_background(tmp_path):
    write_folder(tmp_path / "101_ObjectCategories", ("",), ".jpg")
    Image.new("L", (9, 9)).save(tmp_path / "101_ObjectCategories" / "red" / "image_2.jpg")
    background = tmp_path / "101_ObjectCategories" / "BACKGROUND_Google"
    background.mkdir()
    Image.new("RGB", (9, 9)).save(background / "image_0001.jpg")
    listing = list_samples("caltech101", tmp_path)
    assert listing.class_names == ("green", "red")
    assert [sample.label for sample in listing.samples] == [0, 0, 1, 1, 1]
    assert any("1 pictures of BACKGROUND_Google left out" in line for line in listing.problems)


def test_pictures_are_covered_and_cut_in_the_middle():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 200  # the middle 4 x 4 is light
    assert np.asarray(fit(Image.fromarray(pixels), (4, 4))).min() == 200
    assert fit(Image.fromarray(pixels), (4, 8)).size == (8, 4)
    assert fit(Image.fromarray(pixels), (16, 16)).size == (16, 16)


def test_offline_digits_are_always_the_same(tmp_path):
    for name in ("a", "b"):
        write_digit_pictures(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    listing = list_samples("mnist", tmp_path / "a")
    assert len(listing.samples) == 1797
    assert sum(sample.split == "test" for sample in listing.samples) == 362
    images = read_idx(tmp_path / "a" / "train-images-idx3-ubyte.gz", axes=3)
    assert (images.shape, images.min(), images.max()) == ((1435, 8, 8), 0, 255)


def test_pictures_feed_look_and_draw_like_any_store(tmp_path):
    write_cifar10(tmp_path / "c", "binary")
    _, store = store_of("cifar10", tmp_path / "c", tmp_path / "c.zarr", size_hw=(16, 16))
    with Feed(store, store.indices("train"), FeedSettings(batch_size=5, cache="decoded")) as feed:
        batch = next(iter(feed))
    assert tuple(batch.frames.shape) == (1, 5, 3, 16, 16)
    np.testing.assert_array_equal(batch.frames[0, 0].numpy(), store.read(int(batch.index[0]))[0])
    rows = dict(store_rows(store_info(tmp_path / "c.zarr")))
    assert rows["pictures"] == "planes red, green, blue; one step each"
    assert "60 pictures of 16 x 16 pixels (red, green, blue)" in (tmp_path / "c.zarr/README.md").read_text()
    frame = store.read(0)[0]
    np.testing.assert_array_equal(np.asarray(draw_frame(frame)), frame.transpose(1, 2, 0))
    assert draw_sheet(frame[None], title="a").size[1] > 16
    for colour in (True, False):
        assert len(half_blocks(frame, 16, colour=colour).splitlines()) == 8
        assert len(half_blocks(frame[:1], 8, colour=colour).splitlines()) == 4


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[: len(content) // 2 + 1], "other": b"<html>not found</html>", "empty": b""}[how]
    )


@pytest.mark.parametrize("how", ["cut", "other", "empty"])
@pytest.mark.parametrize(
    ("dataset", "layout", "name"),
    [
        ("mnist", "packed", "train-images-idx3-ubyte.gz"),
        ("mnist", "plain", "t10k-labels-idx1-ubyte"),
        ("cifar10", "python", "data_batch_3"),
        ("cifar10", "binary", "test_batch.bin"),
        ("cifar10", "python.tar.gz", "cifar-10-python.tar.gz"),
    ],
)
def test_damaged_or_wrong_files_are_named_in_one_line(tmp_path, dataset, layout, name, how):
    if dataset == "mnist":
        write_mnist(tmp_path / "d", packed=layout == "packed")
    else:
        write_cifar10(tmp_path / "d", layout)
    damage(tmp_path / "d" / name, how)
    with pytest.raises(DamagedRecording) as caught:
        list_samples(dataset, tmp_path / "d")
    assert str(tmp_path / "d" / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_of_another_set_are_refused(tmp_path):
    write_mnist(tmp_path / "d", packed=False)
    path = tmp_path / "d" / "train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.full(20, 26)))
    with pytest.raises(DamagedRecording, match="labels from 26 to 26, expected 0 to 9"):
        list_samples("mnist", tmp_path / "d")
    path.write_bytes(idx_bytes(np.zeros(19)))
    with pytest.raises(DamagedRecording, match="20 pictures, but 19 labels"):
        list_samples("mnist", tmp_path / "d")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DatasetError, match="no files of MNIST, expected train-images-idx3-ubyte"):
        list_samples("mnist", tmp_path)
    with pytest.raises(DatasetError, match=r"no files of CIFAR-10, expected data_batch_1.*cifar-10-python"):
        list_samples("cifar10", tmp_path)
    write_cifar10(tmp_path / "c", "python")
    (tmp_path / "c" / "test_batch").unlink()
    (tmp_path / "c" / "data_batch_2").unlink()
    with pytest.raises(DatasetError, match="no files of CIFAR-10 for test"):
        list_samples("cifar10", tmp_path / "c")
    with pytest.raises(DatasetError, match="is a file, expected the folder it lies in"):
        list_samples("cifar10", tmp_path / "c" / "data_batch_1")


def test_pickles_run_nothing(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(DamagedRecording, match=r"it names posix\.mkdir, which is not called here"):
        read_plain_pickle(pickle.dumps({b"data": Harmful()}), where="batch")
    assert not (tmp_path / "made").exists()
    kept = read_plain_pickle(pickle.dumps({"data": PICTURES[:2], b"n": b"\xff"}, protocol=2), where="batch")
    np.testing.assert_array_equal(kept[b"data"], PICTURES[:2])


def test_a_damaged_picture_is_listed_and_the_others_converted(tmp_path):
    write_folder(tmp_path / "i", ("train", "test"), ".png")
    path = tmp_path / "i" / "train" / "red" / "image_1.png"
    path.write_bytes(path.read_bytes()[:60])
    summary, store = store_of("image-folder", tmp_path / "i", tmp_path / "i.zarr", size_hw=(8, 8))
    assert (summary.ok, summary.failed) == (7, 1)
    assert "no picture, or damaged" in summary.failures[0].error
    assert len(store.indices("train")) == 3


def test_settings_about_events_are_refused(tmp_path):
    write_mnist(tmp_path / "m", packed=False)
    listing = list_samples("mnist", tmp_path / "m")
    for binning in (
        BinSettings(),
        BinSettings(frames=1, value="binary"),
        BinSettings(frames=1, dtype="uint16"),
    ):
        with pytest.raises(ConfigError, match="pictures have one frame"):
            convert(listing, tmp_path / "m.zarr", ConvertSettings(binning=binning))
    write_folder(tmp_path / "i", ("train", "val"), ".JPEG")
    with pytest.raises(ConfigError, match="pictures in folders differ in size; set one size"):
        convert(list_samples("imagenet", tmp_path / "i"), tmp_path / "i.zarr",
                ConvertSettings(binning=BinSettings(frames=1)))  # fmt: skip
