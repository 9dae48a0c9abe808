"""A film of what was found: events of a window, boxes with class, score and track, and paths of tracks.

Pictures are written to the file one by one, so that memory does not grow with the film.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from events.draw import FONT_PX, INK_RGB, PAPER_RGB, draw_frame
from events.draw_boxes import CLASS_RGB, DrawnBoxes, draw_boxes
from events.writers.atomic import atomic_file
from pipelines.errors import ExperimentError
from pipelines.stream.encoders import ENCODERS, LEAST_MS, WritePicture
from pipelines.stream.files import WindowResult, check_package

# Frames are enlarged by a whole factor, or reduced, to about this many pixels.
SIDE_PX = 480
# Places of a track that its line leads through.
TRAIL = 20

# Adds frames [T, C, H, W] and what was found in them.
AddPicture = Callable[[np.ndarray, WindowResult], None]


def check_film(path: Path) -> None:
    """Refuse a film that cannot be written.

    Raises:
        ExperimentError: It is neither `.gif` nor `.mp4`.
        RunError: The package that writes it is not installed.
    """
    if path.suffix.lower() not in ENCODERS:
        raise ExperimentError(
            f"{path}: no films are written as {path.suffix or 'no suffix'!r}; expected .gif or .mp4"
        )
    if path.suffix.lower() == ".mp4":
        check_package("av", path, instead=".gif, which needs none")


@contextmanager
def film_file(
    path: Path, *, class_names: tuple[str, ...], sensor_hw: tuple[int, int], least_score: float
) -> Iterator[AddPicture]:
    """Give what adds a window to a film; it plays as fast as the recording, 50 pictures a second at most.

    Args:
        path: The file, `.gif` or `.mp4`.
        class_names: In the order of class numbers.
        sensor_hw: Height and width of the sensor, to which boxes refer.
        least_score: Boxes that are less sure and belong to no track are not drawn.
    """
    with atomic_file(path) as stream, ENCODERS[path.suffix.lower()](stream) as write:
        film = _Film(write, class_names, sensor_hw, least_score)
        yield film.add
        film.end()


class _Film:
    def __init__(
        self,
        write: WritePicture,
        class_names: tuple[str, ...],
        sensor_hw: tuple[int, int],
        least_score: float,
    ) -> None:
        self._write, self._names, self._sensor_hw = write, class_names, sensor_hw
        self._least_score = least_score
        self._trails: dict[int, deque[tuple[float, float]]] = {}
        self._seen_us: dict[int, int] = {}
        # The picture that waits to know how long it is shown, and from when.
        self._waiting: Image.Image | None = None
        self._first_us = self._since_us = self._last_us = 0

    def add(self, frames: np.ndarray, found: WindowResult) -> None:
        """Add a window, or leave it out where the picture before it has not been shown long enough."""
        self._follow(found)
        self._last_us = found.stop_us
        if self._waiting is None:
            self._first_us = found.stop_us
        elif found.stop_us - self._since_us < LEAST_MS * 1000:
            return
        else:
            self._show_waiting(self._waiting)
        self._waiting, self._since_us = self._picture(frames, found), found.stop_us

    def end(self) -> None:
        """Write what waits; a film without a window is one white picture."""
        self._show_waiting(self._waiting or Image.new("RGB", self._sensor_hw[::-1], PAPER_RGB))

    def _show_waiting(self, picture: Image.Image) -> None:
        self._write(picture, self._since_us - self._first_us, self._last_us - self._first_us)

    def _follow(self, found: WindowResult) -> None:
        """Note where tracks are, and forget those that were not seen for a second."""
        for xyxy, track in zip(found.xyxy.tolist(), found.track_id.tolist(), strict=True):
            if track >= 0:
                trail = self._trails.setdefault(track, deque(maxlen=TRAIL))
                trail.append(((xyxy[0] + xyxy[2]) / 2, (xyxy[1] + xyxy[3]) / 2))
                self._seen_us[track] = found.stop_us
        for track in [one for one, t in self._seen_us.items() if found.stop_us - t > 1_000_000]:
            del self._trails[track], self._seen_us[track]

    def _picture(self, frames: np.ndarray, found: WindowResult) -> Image.Image:
        T, C, H, W = frames.shape
        by_polarity = frames.reshape(T, 2, C // 2, H, W).sum(axis=(0, 2), dtype=np.int64)
        side = max(H, W)
        picture = draw_frame(by_polarity, scale=max(1, SIDE_PX // side))
        if side > SIDE_PX:
            size = (round(W * SIDE_PX / side), round(H * SIDE_PX / side))
            picture = picture.resize(size, Image.Resampling.BOX)
        shown = (found.score >= self._least_score) | (found.track_id >= 0)
        names = [
            f"{self._names[number]} {score:.2f}" + (f" #{track}" if track >= 0 else "")
            for number, score, track in zip(
                found.class_id[shown].tolist(),
                found.score[shown].tolist(),
                found.track_id[shown].tolist(),
                strict=True,
            )
        ]
        boxes = DrawnBoxes(found.xyxy[shown], names, found.class_id[shown], np.zeros(int(shown.sum()), bool))
        picture = draw_boxes(picture, boxes, frame_hw=self._sensor_hw)
        self._draw_trails(picture, found)
        return self._with_time(picture, found)

    def _draw_trails(self, picture: Image.Image, found: WindowResult) -> None:
        pen = ImageDraw.Draw(picture)
        along_x, along_y = picture.width / self._sensor_hw[1], picture.height / self._sensor_hw[0]
        for number, track in zip(found.class_id.tolist(), found.track_id.tolist(), strict=True):
            places = [(x * along_x, y * along_y) for x, y in self._trails.get(track, ())]
            if len(places) > 1:
                pen.line(places, fill=CLASS_RGB[number % len(CLASS_RGB)], width=1)

    def _with_time(self, picture: Image.Image, found: WindowResult) -> Image.Image:
        whole = Image.new("RGB", (picture.width, picture.height + FONT_PX + 8), PAPER_RGB)
        whole.paste(picture, (0, 0))
        text = f"{found.stop_us / 1e6:.3f} s   {found.events:,} events   {1e3 * found.latency_s:.0f} ms"
        ImageDraw.Draw(whole).text(
            (4, picture.height + 3), text, fill=INK_RGB, font=ImageFont.load_default(size=FONT_PX)
        )
        return whole
