"""Pictures of frames: colours, sizes and texts that a person relies on."""

import numpy as np
import pytest
from PIL import Image

from events.draw import OFF_RGB, ON_RGB, PAPER_RGB, draw_frame, draw_sheet, half_blocks, write_gif
from events.errors import ConfigError


def frame_with(*, on=(), off=(), hw=(4, 6), count=1):
    frame = np.zeros((2, *hw), np.uint8)
    for p, places in ((1, on), (0, off)):
        for y, x in places:
            frame[p, y, x] = count
    return frame


def test_on_is_red_off_is_blue_upright_on_white():
    picture = draw_frame(frame_with(on=[(0, 5)], off=[(3, 0)]), scale=3)
    assert picture.size == (18, 12)
    assert picture.getpixel((17, 2)) == ON_RGB  # top right
    assert picture.getpixel((0, 11)) == OFF_RGB  # bottom left
    assert picture.getpixel((0, 0)) == PAPER_RGB
    assert ON_RGB[0] > ON_RGB[2]
    assert OFF_RGB[2] > OFF_RGB[0]


def test_a_single_event_stays_visible_beside_a_busy_pixel():
    frame = frame_with(on=[(0, 0)], count=200)
    frame[1, 2, 2] = 1
    red, green, blue = draw_frame(frame, peak=200).getpixel((2, 2))
    assert (red, green, blue) != PAPER_RGB
    assert blue < 200  # at least a quarter of the colour


def test_an_empty_frame_is_white():
    assert np.asarray(draw_frame(frame_with())).min() == 255


def test_the_sheet_holds_every_frame_upright():
    frames = np.stack([frame_with(on=[(0, 0)]), frame_with(off=[(3, 5)]), frame_with(), frame_with()])
    sheet = np.asarray(
        draw_sheet(frames, title="four", t_edges_us=np.array([0, 10, 20, 30, 4_000]), columns=2)
    )
    red, blue = (np.argwhere((sheet == rgb).all(axis=2)) for rgb in (ON_RGB, OFF_RGB))
    # 33 times enlarged (200 // 6): the red square of frame 0 is whole, the blue one of frame 1 too.
    height, width = sheet.shape[:2]
    tiles_red = red[(red[:, 1] < width // 2) & (red[:, 0] < height // 2)]
    tiles_blue = blue[(blue[:, 1] > width // 2) & (blue[:, 0] > 40) & (blue[:, 0] < height // 2)]
    assert len(tiles_red) == len(tiles_blue) == 33 * 33
    assert tiles_red.mean(axis=0)[0] < tiles_blue.mean(axis=0)[0]


@pytest.mark.parametrize(("T", "hw"), [(1, (34, 34)), (10, (128, 128)), (80, (48, 48)), (3, (720, 1280))])
def test_sheets_of_usual_shapes_have_sensible_sizes(T, hw):
    rng = np.random.default_rng(0)
    frames = (rng.random((T, 2, *hw)) < 0.02).astype(np.uint8)
    sheet = draw_sheet(frames, title="a recording", t_edges_us=np.arange(T + 1) * 1_000)
    assert 200 < sheet.width < 2_800
    assert 150 < sheet.height < 2_800


def test_the_strip_shows_when_what_happened():
    busy, quiet = frame_with(on=[(0, 0), (1, 1)], count=50), frame_with(on=[(0, 0)])
    sheet = np.asarray(draw_sheet(np.stack([quiet, busy]), t_edges_us=np.array([0, 1_000, 2_000])))
    strip = (sheet[-80:] == ON_RGB).all(axis=2)
    middle = strip.shape[1] // 2
    assert strip[:, middle:].sum() > 20 * max(1, strip[:, :middle].sum())


def test_gif_has_every_frame_and_repeats(tmp_path):
    frames = np.stack([frame_with(on=[(y, y)]) for y in range(4)])
    write_gif(tmp_path / "a.gif", frames, frame_ms=50, t_edges_us=np.arange(5) * 1_000)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 4
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 50


def test_gif_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.gif: cannot be written \(No such file or directory\)"):
        write_gif(tmp_path / "missing" / "a.gif", frame_with()[None])


def test_half_blocks_without_colour_read_as_signs():
    frame = frame_with(on=[(0, 0), (2, 3)], off=[(1, 1), (3, 3)])
    assert half_blocks(frame, 6, colour=False) == "+-\n   #"


def test_half_blocks_enlarge_by_whole_factors_and_add_up():
    # Two times enlarged: the pixel at the top right becomes the last two characters of the first line.
    assert half_blocks(frame_with(on=[(0, 5)], hw=(2, 6)), 13, colour=False) == " " * 10 + "++\n"
    wide = frame_with(on=[(0, 0), (1, 0), (0, 7)], hw=(2, 8))
    assert half_blocks(wide, 4, colour=False) == "+  +"


def test_no_color_is_respected(monkeypatch):
    frame = frame_with(on=[(0, 0)])
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = half_blocks(frame, 6)
    red, green, blue = ON_RGB
    assert coloured.startswith(f"\x1b[38;2;{red};{green};{blue};48;2;255;255;255m▀")
    assert all(line.endswith("\x1b[0m") for line in coloured.splitlines())
    assert len(coloured.splitlines()) == 2
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in half_blocks(frame, 6)


def test_a_frame_of_odd_height_keeps_its_last_row():
    assert half_blocks(frame_with(on=[(2, 0)], hw=(3, 1)), 1, colour=False) == "\n+"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_frame(np.zeros((4, 4, 6))), r"frames must have the shape \[T, P, H, W\] with P = 2"),
        (lambda: draw_frame(frame_with(), scale=0), "scale must be at least 1, got 0"),
        (lambda: draw_sheet(np.zeros((0, 2, 4, 6))), r"got \(0, 2, 4, 6\)"),
        (
            lambda: draw_sheet(frame_with()[None], t_edges_us=np.arange(3)),
            "t_edges_us must have 2 times, got 3",
        ),
        (lambda: write_gif("a.gif", frame_with()[None], frame_ms=5), "frame_ms must be at least 20"),
        (lambda: half_blocks(frame_with(), 0), "width must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
