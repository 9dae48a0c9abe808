"""Augmentation of pictures: operations, mixed pictures, and what decides them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from events.augment import AugmentSettings
from events.augment_pictures import OPERATIONS, SIGNED, PictureAugmentSettings, mix, operate, partners
from events.batches import Feed, FeedSettings
from events.errors import ConfigError

ALL = PictureAugmentSettings(operations=2, operation_share=1.0, mixup=0.5, cutmix=1.0)


class MemoryStore:
    """Pictures in memory; those of a class are of one value."""

    def __init__(self, samples=24, planes=3, steps=1, dtype=np.uint8):
        self.path = Path("memory.zarr")
        self.label = (np.arange(samples) % 5).astype(np.int32)
        self.shape = (samples, steps, planes, 8, 12)
        self.frames = np.broadcast_to((40 * self.label)[:, None, None, None, None], self.shape).astype(dtype)
        self.dtype = self.frames.dtype
        self.values = None

    def read_into(self, indices, out):
        out[...] = self.frames[np.asarray(indices)]


def batches(pictures, *, store=None, epoch=0, **settings):
    store = store or MemoryStore()
    augment = AugmentSettings(pictures=pictures)
    wanted = FeedSettings(**({"batch_size": 6, "shuffle": True, "seed": 3, "augment": augment} | settings))
    with Feed(store, np.arange(store.shape[0]), wanted) as feed:
        feed.load_state_dict({"epoch": epoch, "batch": 0, "seed": 3})
        return list(feed)


def drawn(seed, planes=3, size=(8, 12)):
    return np.random.default_rng(seed).integers(0, 256, (planes, *size)).astype(np.uint8)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_and_takes_both_signs(name, planes):
    from PIL import Image

    picture = drawn(1, planes)
    image = Image.fromarray(picture[0] if planes == 1 else np.ascontiguousarray(picture.transpose(1, 2, 0)))
    for level in (0.9, -0.9) if name in SIGNED else (0.9,):
        changed = OPERATIONS[name](image, level)
        assert (changed.size, changed.mode) == (image.size, image.mode)


def test_operations_by_hand():
    from PIL import Image

    image = Image.fromarray(np.array([[0, 100, 200, 255]], np.uint8))
    values = lambda changed: np.asarray(changed)[0].tolist()  # noqa: E731
    assert values(OPERATIONS["invert"](image, 0.5)) == [255, 155, 55, 0]
    assert values(OPERATIONS["solarize"](image, 0.5)) == [0, 100, 55, 0]  # 128 and above are inverted
    assert values(OPERATIONS["solarize_add"](image, 0.5)) == [55, 155, 200, 255]
    assert values(OPERATIONS["posterize"](image, 0.5)) == [0, 64, 192, 192]  # two bits
    assert values(OPERATIONS["brightness"](image, -1.0)) == [0, 10, 20, 25]
    assert values(OPERATIONS["translate_x"](image, 1 / 1.8)) == [100, 200, 255, 128]  # a quarter of 4 pixels


def test_operations_depend_on_seed_epoch_and_sample_alone():
    settings = replace(ALL, magnitude_deviation=0.4)

    def run(samples, seed=1, epoch=2):
        pictures = np.stack([drawn(sample) for sample in samples]).astype(np.float32)
        operate(pictures, np.array(samples), settings=settings, seed=seed, epoch=epoch)
        return pictures

    whole = run(range(20))
    np.testing.assert_array_equal(whole[[7, 3]], run([7, 3]))
    assert (whole != run(range(20), epoch=3)).any(axis=(1, 2, 3)).mean() > 0.5
    assert (whole != run(range(20), seed=2)).any(axis=(1, 2, 3)).mean() > 0.5
    assert whole.min() >= 0
    assert whole.max() <= 255
    untouched = np.stack([drawn(sample) for sample in range(20)])
    operate(untouched, np.arange(20), settings=replace(settings, operation_share=0.0), seed=1, epoch=2)
    np.testing.assert_array_equal(untouched, [drawn(sample) for sample in range(20)])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shares_of_mixed_pictures_are_what_is_in_them(dtype):
    own, others = np.zeros((200, 3, 10, 10), dtype), np.full((200, 3, 10, 10), 200, dtype)
    samples = np.arange(200)
    shares = mix(own, others, samples, settings=PictureAugmentSettings(mixup=0.5), seed=0, epoch=0)
    np.testing.assert_allclose(own.mean(axis=(1, 2, 3)), 200 * (1 - shares), atol=0.51)
    # Beta(1/2, 1/2) has mean 1/2 and variance 1/8.
    assert abs(shares.mean() - 0.5) < 0.1
    assert abs(shares.var() - 0.125) < 0.03
    own[...] = 0
    shares = mix(own, others, samples, settings=PictureAugmentSettings(cutmix=1.0), seed=0, epoch=0)
    assert set(np.unique(own)) == {0, 200}
    np.testing.assert_allclose((own == 0).mean(axis=(1, 2, 3)), shares, atol=1e-6)
    own[...] = 0
    half = PictureAugmentSettings(mixup=1.0, cutmix=1.0, mix_share=0.5)
    shares = mix(own, others, samples, settings=half, seed=0, epoch=0)
    assert 0.35 < (shares == 1).mean() < 0.65


def test_a_feed_says_what_its_pictures_are_made_of():
    for batch in batches(PictureAugmentSettings(mixup=0.5)):
        own, other = 40.0 * batch.labels, 40.0 * batch.other_labels
        expected = (batch.own_share * own + (1 - batch.own_share) * other).numpy()
        np.testing.assert_allclose(batch.frames[0].mean(dim=(1, 2, 3)).numpy(), expected, atol=0.51)
    first, *_ = batches(PictureAugmentSettings(mixup=0.5, mix_epochs=2), epoch=2)
    assert first.other_labels is None
    assert first.own_share is None


def test_everyone_is_somebodys_partner_once():
    found = partners(50, seed=1, epoch=4)
    assert sorted(found) == list(range(50))
    assert (found != partners(50, seed=1, epoch=5)).any()


def test_processes_together_see_what_one_does():
    alone = batches(ALL, drop_last=True, cache="decoded")
    parts = [
        batches(ALL, batch_size=3, drop_last=True, rank=rank, world_size=2, cache="none") for rank in (0, 1)
    ]
    for whole, *shares in zip(alone, *parts, strict=True):
        for rank, share in enumerate(shares):
            assert share.index.tolist() == whole.index[rank::2].tolist()
            assert share.other_labels.tolist() == whole.other_labels[rank::2].tolist()
            np.testing.assert_array_equal(share.own_share, whole.own_share[rank::2])
            np.testing.assert_array_equal(share.frames, whole.frames[:, rank::2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": -1}, "operations must be at least 0, got -1"),
        ({"magnitude": 11}, "magnitude must be from 0 to 10, got 11"),
        ({"mix_share": 1.5}, "mix_share is a probability from 0 to 1, got 1.5"),
        ({"mix_epochs": -1}, "mix_epochs must be at least 0, got -1; none mixes in all"),
        ({"mixup": float("nan")}, "mixup must be at least 0, got nan"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        PictureAugmentSettings(**settings)


@pytest.mark.parametrize("store", [{"steps": 4}, {"planes": 2}, {"dtype": np.uint16}])
def test_recordings_are_no_pictures(store):
    with pytest.raises(ConfigError, match=r"augment\.pictures is for pictures, uint8 of shape \[1, 1 or 3"):
        batches(ALL, store=MemoryStore(**store))
