"""Augmentation: what a draw may do, and what it may depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.augment import AugmentSettings, augment_batch
from events.errors import ConfigError

SHAPE = (5, 3, 2, 9, 12)  # M, T, P, H, W


def some_frames(seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 4, SHAPE).astype(dtype)


def augmented(frames, rows=None, samples=None, *, seed=0, epoch=0, dtype=None, **changes):
    rows = np.arange(len(frames)) if rows is None else np.asarray(rows)
    samples = rows if samples is None else np.asarray(samples)
    out = np.full((frames.shape[1], len(rows), *frames.shape[2:]), 77, dtype or frames.dtype)
    augment_batch(
        frames,
        rows,
        samples=samples,
        settings=AugmentSettings(**changes),
        seed=seed,
        epoch=epoch,
        out=out,
    )
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("out_dtype", [np.uint8, np.float32])
def test_default_only_moves_time_first(dtype, out_dtype):
    frames = some_frames(dtype=dtype)
    before = frames.copy()
    out = augmented(frames, rows=[4, 0, 2], dtype=out_dtype)
    np.testing.assert_array_equal(out, frames[[4, 0, 2]].swapaxes(0, 1))
    np.testing.assert_array_equal(frames, before)


def test_certain_flip_mirrors_left_and_right():
    frames = some_frames()
    np.testing.assert_array_equal(augmented(frames, flip=1.0), frames[..., ::-1].swapaxes(0, 1))


def all_shifts(frame, largest, fill):
    """Every picture a shift may give, by np.roll or by cutting from a zero border."""
    H, W = frame.shape[-2:]
    for dy in range(-largest, largest + 1):
        for dx in range(-largest, largest + 1):
            if fill == "wrap":
                yield (dy, dx), np.roll(frame, (dy, dx), axis=(-2, -1))
            else:
                padded = np.pad(frame, [(0, 0)] * (frame.ndim - 2) + [(largest, largest)] * 2)
                yield (dy, dx), padded[..., largest - dy : largest - dy + H, largest - dx : largest - dx + W]


@pytest.mark.parametrize("fill", ["wrap", "zero"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_shift_is_one_of_the_allowed_ones_and_all_come_up(fill, flip):
    frames = some_frames()
    seen = set()
    for epoch in range(40):
        out = augmented(frames, epoch=epoch, roll_px=1, roll_fill=fill, flip=flip).swapaxes(0, 1)
        for sample, result in zip(frames, out, strict=True):
            start = sample[..., ::-1] if flip else sample
            fitting = [by for by, moved in all_shifts(start, 1, fill) if np.array_equal(moved, result)]
            assert len(fitting) == 1
            seen.add(fitting[0])
    assert len(seen) == 9


def test_shift_larger_than_the_frame():
    frames = some_frames()
    wrapped = augmented(frames, roll_px=40, roll_fill="wrap")
    assert wrapped.sum() == frames.sum()
    assert augmented(frames, roll_px=400).max() <= frames.max()


def test_drop_keeps_each_event_with_its_sample_share():
    frames = np.full((40, 1, 1, 50, 50), 4, np.uint8)
    out = augmented(frames, drop=0.8)
    kept = out[0].reshape(40, -1).mean(axis=1) / 4
    # A sample's share kept is uniform from 0.2 to 1; its 10,000 events give it to about 0.005.
    assert kept.min() > 0.15
    assert kept.max() <= 1
    assert 0.5 < kept.mean() < 0.7
    assert kept.std() > 0.1
    # Binomial: the variance of the counts of one sample is 4 q (1 - q).
    counts, q = out[0, 0].astype(float), kept[0]
    assert counts.var() == pytest.approx(4 * q * (1 - q), rel=0.1)


def test_drop_never_adds_events():
    frames = some_frames()
    assert (augmented(frames, drop=0.9) <= frames.swapaxes(0, 1)).all()


def test_half_turn_by_hand():
    # 180 degrees about the centre is both axes reversed; draws near the limits come close to it.
    frames = np.zeros((1, 1, 1, 5, 5), np.uint8)
    frames[0, 0, 0, 2, 2], frames[0, 0, 0, 2, 4] = 9, 3
    positions = set()
    for epoch in range(200):
        out = augmented(frames, epoch=epoch, rotate_deg=180.0)[0, 0, 0]
        assert out[2, 2] == 9
        positions |= {tuple(p) for p in np.argwhere(out == 3).tolist()}
    assert {(2, 4), (4, 2), (2, 0), (0, 2)} <= positions
    # Two pixels from the centre, rounded: nothing nearer than 1 or farther than 3.
    assert all(1 <= np.hypot(y - 2, x - 2) <= 3 for y, x in positions)


def test_zoom_changes_the_size_of_a_square():
    frames = np.zeros((1, 1, 1, 41, 41), np.uint8)
    frames[0, 0, 0, 10:31, 10:31] = 1  # 21 pixels wide
    widths = {int(augmented(frames, epoch=e, zoom=0.3)[0, 0, 0, 20].sum()) for e in range(60)}
    assert min(widths) < 17
    assert max(widths) > 25
    assert min(widths) >= 21 * 0.7 - 1
    assert max(widths) <= 21 * 1.3 + 1


def test_all_frames_of_a_sample_share_the_draw():
    one = np.random.default_rng(3).integers(0, 5, (1, 1, 2, 9, 12)).astype(np.uint8)
    frames = np.repeat(one, 4, axis=1)
    out = augmented(frames, roll_px=3, flip=0.5, rotate_deg=20.0, zoom=0.1)
    for step in range(1, 4):
        np.testing.assert_array_equal(out[step], out[0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1000),
    rows=st.permutations(range(5)),
    cut=st.integers(1, 4),
)
def test_a_sample_does_not_depend_on_its_batch(seed, epoch, rows, cut):
    frames = some_frames()
    changes = {"flip": 0.5, "roll_px": 2, "drop": 0.3, "rotate_deg": 15.0}
    whole = augmented(frames, rows=rows, seed=seed, epoch=epoch, **changes)
    parts = [
        augmented(frames, rows=part, seed=seed, epoch=epoch, **changes) for part in (rows[:cut], rows[cut:])
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))


def test_seed_epoch_and_sample_each_change_the_draw():
    frames = np.repeat(some_frames()[:1], 5, axis=0)
    changes = {"roll_px": 3, "roll_fill": "wrap", "drop": 0.5}
    first = augmented(frames, **changes)
    assert not np.array_equal(first, augmented(frames, seed=1, **changes))
    assert not np.array_equal(first, augmented(frames, epoch=1, **changes))
    assert len({first[:, b].tobytes() for b in range(5)}) == 5
    # The number in the store decides, not the row.
    again = augmented(frames, rows=[0, 0], samples=[3, 4], **changes)
    np.testing.assert_array_equal(again, first[:, 3:])


def test_flip_share_is_the_probability():
    frames = np.zeros((2000, 1, 1, 1, 2), np.uint8)
    frames[..., 0] = 1
    flipped = augmented(frames, flip=0.3)[0, :, 0, 0, 1].mean()
    # 2,000 draws of probability 0.3 have a standard deviation of 0.0102.
    assert abs(flipped - 0.3) < 4 * 0.0102


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": 1.5}, "flip is a probability from 0 to 1, got 1.5"),
        ({"roll_px": -1}, "roll_px must be at least 0 pixels, got -1"),
        ({"roll_fill": "mirror"}, "roll_fill must be 'wrap' or 'zero', got 'mirror'"),
        ({"drop": 1.0}, "drop is a share from 0 to below 1, got 1.0"),
        ({"rotate_deg": 200.0}, "rotate_deg must be from 0 to 180 degrees, got 200.0"),
        ({"zoom": 1.0}, "zoom must be from 0 to below 1, got 1.0"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ConfigError, match=message):
        AugmentSettings(**changes)


def test_wrong_output_shape_is_refused():
    frames = some_frames()
    with pytest.raises(ConfigError, match=r"out must be of shape \[3, 2 or more, 2, 9, 12\] in C order"):
        augment_batch(
            frames,
            np.array([0, 1]),
            samples=np.array([0, 1]),
            settings=AugmentSettings(),
            seed=0,
            epoch=0,
            out=np.empty((2, 3, 2, 9, 12), np.uint8),
        )
