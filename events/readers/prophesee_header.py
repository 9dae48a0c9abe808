"""The text header of Prophesee's DAT and RAW files.

Lines `% key value` that end with LF; newer files end them with `% end`. Without it, data starts at the
first byte that begins no such line. A first word of data that happens to begin with the bytes of "% " looks
like one more line, so a line must be text; and one that is not plain ASCII, or is blank and the last, is
taken for data where plausible data starts with it.
Source: docs.prophesee.ai, "DAT file format" and "RAW file format".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from events.errors import DamagedRecording
from events.readers.source import Source

MARK = b"%"
# A key and a value without control characters but tab and CR; other bytes may be UTF-8.
LINE = re.compile(rb"%[ \t][^\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]*\n")
UNFINISHED_LINE = re.compile(rb"%(?:[ \t][^\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]*)?\Z")
END_LINE = re.compile(rb"% *end *\r?\n")

# Keys whose values may be in any language.
KNOWN_KEYS = (
    "date",
    "integrator_name",
    "camera_integrator_name",
    "plugin_integrator_name",
    "plugin_name",
    "sensor_name",
    "serial_number",
)

# Longest header read; real ones are below 1 kB.
LARGEST_HEADER_BYTES = 1 << 16

# Sensors of cameras whose files do not say their size, by the start of `plugin_name`, by `sensor_generation`
# and by `system_ID`: height and width. Source: OpenEB, device_system_id.h and psee_raw_file_header.cpp.
VGA, HD = (480, 640), (720, 1280)
PLUGIN_HW = {
    "hal_plugin_gen3": VGA,
    "hal_plugin_gen4": HD,
    "hal_plugin_imx636": HD,
    "hal_plugin_genx320": (320, 320),
}
GENERATION_HW = {"3.0": VGA, "3.1": VGA, "4.0": HD, "4.1": HD, "4.2": HD}
SYSTEM_HW = (
    dict.fromkeys((0x15, 0x1D, 0x21, 0x22, 0x23, 0x28, 0x29), VGA)
    | dict.fromkeys((0x1E, 0x1F, 0x27, 0x2E, 0x30, 0x31, 0x32), HD)
    | dict.fromkeys((0x3B, 0x40), (320, 320))
)

# Larger sides do not fit the 11 bits of a row or column in EVT, or the 14 bits in DAT.
LARGEST_SIDE = 1 << 14


@dataclass(frozen=True)
class PropheseeHeader:
    """What the text before the data says.

    Attributes:
        fields: Keys in lower case and values, as written; of repeated keys the last.
        data_type: What a line `Data file containing ...` names; None where there is none.
        end: First byte of the data.
        ended: Whether a line `% end` is there.
        unfinished: Whether the file ends inside a header line.
    """

    fields: dict[str, str] = field(default_factory=dict)
    data_type: str | None = None
    end: int = 0
    ended: bool = False
    unfinished: bool = False

    @property
    def format_options(self) -> dict[str, str]:
        """The parts of the line `% format EVT3;height=720;width=1280`; the name under `name`."""
        name, *parts = self.fields.get("format", "").split(";")
        pairs = (part.partition("=") for part in parts)
        return {"name": name.strip().upper()} | {
            key.strip().lower(): value.strip() for key, _, value in pairs
        }

    @property
    def sensor_hw(self) -> tuple[int, int] | None:
        """Height and width in pixels, as the header says them or the camera it names has; else None."""
        options = self.format_options
        width, _, height = self.fields.get("geometry", "").lower().partition("x")
        for candidate in (
            (options.get("height"), options.get("width")),
            (height, width),
            (self.fields.get("height"), self.fields.get("width")),
        ):
            if all(side and side.strip().isdecimal() and 0 < int(side) <= LARGEST_SIDE for side in candidate):
                return int(candidate[0] or 0), int(candidate[1] or 0)
        return self._camera_hw()

    def _camera_hw(self) -> tuple[int, int] | None:
        """Height and width of the camera's sensor."""
        plugin = self.fields.get("plugin_name", "").lower()
        for start, hw in PLUGIN_HW.items():
            if plugin.startswith(start):
                return hw
        by_generation = GENERATION_HW.get(self.fields.get("sensor_generation", ""))
        return by_generation or SYSTEM_HW.get(self.system_id)

    @property
    def system_id(self) -> int:
        """Number of the camera's board; 0 where it is not there."""
        value = self.fields.get("system_id", "")
        return int(value) if value.isdecimal() and value.isascii() else 0

    def facts(self) -> dict[str, Any]:
        """What the header says, for people."""
        facts: dict[str, Any] = dict(self.fields)
        if self.data_type is not None:
            facts["data_type"] = self.data_type
        facts["header_bytes"] = self.end
        return facts


def read_header(source: Source, *, data_fits: Callable[[bytes], bool]) -> PropheseeHeader:
    """Read the header of a file, which may have none.

    Args:
        source: The file.
        data_fits: Whether bytes start with plausible data; asked where a line may be text or data.

    Raises:
        DamagedRecording: The header does not end.
    """
    head = source.head[:LARGEST_HEADER_BYTES]
    end, ended = 0, False
    lines: list[str] = []
    while not ended and (line := LINE.match(head, end)):
        blank = not line[0].strip(b"% \t\r\n") and not LINE.match(head, line.end())
        if (blank or not line[0].isascii()) and not is_text(line[0], head[end:], data_fits):
            break
        lines.append(line[0].decode("utf-8").strip("%\r\n\t "))
        ended = END_LINE.fullmatch(line[0]) is not None
        end = line.end()
    unfinished = not ended and end < len(head) and UNFINISHED_LINE.match(head, end) is not None
    if unfinished and len(head) < source.size:
        raise DamagedRecording(
            f"{source.path}: byte {end}: no end of the header in {len(head)} bytes; expected events after it"
        )
    return parse_lines(lines, source.size if unfinished else end, ended=ended, unfinished=unfinished)


def is_text(line: bytes, rest: bytes, data_fits: Callable[[bytes], bool]) -> bool:
    """Whether a line that is not plain ASCII, or blank, is text, and not the start of the data `rest`."""
    try:
        key = line.decode("utf-8").strip("%\r\n\t ").partition(" ")[0]
    except UnicodeDecodeError:
        return False
    return key.lower() in KNOWN_KEYS or not data_fits(rest)


def parse_lines(lines: list[str], end: int, *, ended: bool, unfinished: bool) -> PropheseeHeader:
    """Turn header lines without their marks into keys and values."""
    fields: dict[str, str] = {}
    data_type = None
    for line in lines:
        key, _, value = line.partition(" ")
        if line.startswith("Data file containing"):
            data_type = (
                line.removeprefix("Data file containing").removesuffix(".").removesuffix("events").strip()
            )
        elif key and key != "end":
            fields[key.lower()] = value.strip()
    return PropheseeHeader(fields, data_type, end, ended, unfinished)
