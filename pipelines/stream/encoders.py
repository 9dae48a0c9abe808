"""Pictures to a film, one by one: GIF by Pillow, MP4 by PyAV, which carries FFmpeg.

An encoder takes a picture with the times at which it is shown and gone, microseconds from the film's
beginning, without gaps. A GIF takes no memory for what was written. An MP4 keeps its table of pictures until
its end, as the format has it: about 15 MB an hour.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from typing import IO

import numpy as np
from PIL import Image, ImageOps
from PIL.GifImagePlugin import getdata, getheader

from events.draw import INK_RGB, OFF_RGB, ON_RGB, PAPER_RGB
from events.draw_boxes import CLASS_RGB, IGNORED_RGB

# Viewers show a picture for this long at least.
LEAST_MS = 20
# Shades of each polarity in the palette; their products make 196 of the 256 colours of a GIF.
SHADES = 14
# H.264 in the colours of standard video, BT.601 with 16 to 235, as players take small films to be.
# Source: FFmpeg's libavutil/pixfmt.h, AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG.
BT601, LIMITED_RANGE = 6, 1
# Flat colours and thin lines: a lower rate factor than x264's 23.
X264 = {"preset": "veryfast", "crf": "20"}

# Writes a picture of colours, RGB, and from when to when it is shown.
WritePicture = Callable[[Image.Image, int, int], None]


@contextmanager
def gif_encoder(stream: IO[bytes]) -> Iterator[WritePicture]:
    """Give what writes pictures of a GIF that is played again and again."""
    begun = False

    def write(picture: Image.Image, start_us: int, stop_us: int) -> None:
        nonlocal begun
        picture = picture.quantize(palette=_palette(), dither=Image.Dither.NONE)
        if not begun:
            header, _ = getheader(picture, info={"loop": 0, "optimize": False})
            stream.writelines(header)
            begun = True
        # A GIF's times are hundredths of a second in 16 bits.
        shown_ms = min(max((stop_us - start_us) // 1000, LEAST_MS), 655_350)
        stream.writelines(getdata(picture, duration=shown_ms, disposal=1))

    yield write
    stream.write(b";")


@contextmanager
def mp4_encoder(stream: IO[bytes]) -> Iterator[WritePicture]:
    """Give what writes pictures of an MP4: H.264, yuv420p, times to the microsecond.

    yuv420p asks for even sides: a picture of an odd one gets a white line at its right or lower edge.
    """
    import av
    from av.video.stream import VideoStream

    tick = Fraction(1, 1_000_000)
    video: VideoStream | None = None
    with av.open(stream, "w", format="mp4") as film:

        def write(picture: Image.Image, start_us: int, stop_us: int) -> None:
            nonlocal video
            even = ImageOps.expand(
                picture, (0, 0, picture.width % 2, picture.height % 2), fill=tuple(PAPER_RGB)
            )
            if video is None:
                # The rate is what x264 plans its bits and its level by; pictures have times of their own.
                video = film.add_stream("libx264", rate=1000 // LEAST_MS, options=X264)
                video.width, video.height = even.size
                video.pix_fmt = "yuv420p"
                video.codec_context.time_base = tick
                video.codec_context.colorspace = BT601
                video.codec_context.color_range = LIMITED_RANGE
            frame = av.VideoFrame.from_image(even).reformat(
                format="yuv420p", dst_colorspace=BT601, dst_color_range=LIMITED_RANGE
            )
            frame.pts, frame.time_base = start_us, tick
            frame.duration = max(stop_us - start_us, LEAST_MS * 1000)
            film.mux(video.encode(frame))

        yield write
        if video is not None:
            film.mux(video.encode(None))


ENCODERS = {".gif": gif_encoder, ".mp4": mp4_encoder}


@cache
def _palette() -> Image.Image:
    """Return the colours of all pictures: polarities in shades and mixed, those of boxes and words."""
    shade = np.linspace(0, 1, SHADES)[:, None]
    off, on = (1 - shade * (1 - np.array(rgb) / 255) for rgb in (OFF_RGB, ON_RGB))
    mixed = np.round(np.array(PAPER_RGB) * off[:, None] * on[None]).reshape(-1, 3).astype(int)
    colours = np.concatenate([mixed, CLASS_RGB, [IGNORED_RGB, INK_RGB]])
    greys = np.linspace(0, 255, 256 - len(colours)).astype(int)[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([colours, greys]).astype(np.uint8).tobytes())
    return palette
