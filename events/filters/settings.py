"""What is filtered out of a stream of events, and in which order."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from events.errors import ConfigError

Polarity = Literal["on", "off", "flip"]


@dataclass(frozen=True)
class FilterSettings:
    """Steps applied to every event, in the order of the fields below; each sees what the one before left.

    Attributes:
        start_us: Leave out events before this time.
        stop_us: Leave out events at this time and later.
        crop: x0, y0, x1, y1: keep x0 <= x < x1 and y0 <= y < y1, and count pixels from x0, y0.
        polarity: Keep only `on` or `off` events, or `flip` every polarity.
        hot_pixels: Pixels x, y, in pixels of the recording, whose events are all left out.
        dedup: Leave out an event equal in t, x, y and p to the last one of its pixel and polarity.
        refractory_us: Leave out an event less than this time after the last one of its pixel that was kept.
        background_us: Leave out an event none of whose 8 neighbours had an event within this time.
        downsample: Join squares of that many pixels a side to one pixel.
    """

    start_us: int | None = None
    stop_us: int | None = None
    crop: tuple[int, int, int, int] | None = None
    polarity: Polarity | None = None
    hot_pixels: tuple[tuple[int, int], ...] = ()
    dedup: bool = False
    refractory_us: int | None = None
    background_us: int | None = None
    downsample: int = 1

    def __post_init__(self) -> None:
        for name in ("refractory_us", "background_us", "downsample"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.start_us is not None and self.stop_us is not None and self.stop_us < self.start_us:
            raise ConfigError(f"stop_us ({self.stop_us}) must not be below start_us ({self.start_us})")
        if self.polarity not in (None, "on", "off", "flip"):
            raise ConfigError(f"polarity {self.polarity!r} is unknown; known are on, off, flip")
        if self.crop is not None:
            x0, y0, x1, y1 = self.crop
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise ConfigError(
                    f"crop {x0},{y0},{x1},{y1} is empty; expected x0,y0,x1,y1 with x0 < x1, y0 < y1"
                )

    def check_sensor(self, sensor_hw: tuple[int, int]) -> None:
        """Refuse places that are not on the sensor.

        Raises:
            ConfigError: The crop or a hot pixel reaches beyond it.
        """
        height, width = sensor_hw
        if self.crop is not None and (self.crop[2] > width or self.crop[3] > height):
            raise ConfigError(
                f"crop {','.join(map(str, self.crop))} reaches beyond the sensor of {height}x{width} "
                f"(height x width); expected x1 up to {width} and y1 up to {height}"
            )
        for x, y in self.hot_pixels:
            if not (0 <= x < width and 0 <= y < height):
                raise ConfigError(f"hot pixel x={x}, y={y} is outside the sensor of {height}x{width}")

    def sensor_after(self, sensor_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of what comes out; a last, partial square of `downsample` counts."""
        height, width = sensor_hw
        if self.crop is not None:
            width, height = self.crop[2] - self.crop[0], self.crop[3] - self.crop[1]
        return -(-height // self.downsample), -(-width // self.downsample)

    @property
    def changes_nothing(self) -> bool:
        """Whether every event comes out as it goes in."""
        return all(getattr(self, field.name) == field.default for field in fields(self))

    def as_dict(self) -> dict[str, Any]:
        """Return what is set, as plain JSON types."""
        default = FilterSettings()
        return {name: value for name, value in asdict(self).items() if value != getattr(default, name)}


@dataclass
class FilterReport:
    """How many events came, how many each step removed, and how many are left.

    Attributes:
        events_in: Events that came.
        outside_time, outside_crop, other_polarity, hot, duplicates, refractory, background: Removed by the
            step of that name.
        events_out: Events that are left.
    """

    events_in: int = 0
    outside_time: int = 0
    outside_crop: int = 0
    other_polarity: int = 0
    hot: int = 0
    duplicates: int = 0
    refractory: int = 0
    background: int = 0
    events_out: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts as plain JSON types."""
        return asdict(self)
