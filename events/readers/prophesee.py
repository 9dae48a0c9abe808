"""Which of Prophesee's formats a file is, told by its header and never by its suffix."""

from events.errors import UnknownFormat
from events.readers.dat import EVENT_TYPES, OTHER_TYPES, RECORD_BYTES, VERSION_1_HW, dat_header, dat_layout
from events.readers.plausible import looks_like_records
from events.readers.prophesee_header import MARK, PropheseeHeader
from events.readers.source import Source

# Names in the line `% format EVT3;...` or `% evt 3.0`, and the formats.
EVT_FORMATS = {
    "EVT2": "evt2",
    "EVT21": "evt21",
    "EVT3": "evt3",
    "2.0": "evt2",
    "2.1": "evt21",
    "3.0": "evt3",
}
RAW_KEYS = ("evt", "format", "plugin_name", "system_id", "integrator_name")


def prophesee_format(source: Source) -> str | None:
    """Return the name of the format; None where there is no header of Prophesee's.

    Raises:
        UnknownFormat: The header is that of a RAW file and names no version of EVT known here.
    """
    if not source.head.startswith(MARK):
        return None
    header = dat_header(source)
    kind = source.read(header.end, 2)
    typed = len(kind) == 2 and kind[0] in EVENT_TYPES | OTHER_TYPES and kind[1] == RECORD_BYTES
    if header.data_type is not None or (header.end > 0 and typed and "evt" not in header.fields):
        return "dat"
    if not any(key in header.fields for key in RAW_KEYS):
        return None
    name = evt_name(header)
    if name not in EVT_FORMATS:
        raise UnknownFormat(
            f"{source.path}: a Prophesee RAW file whose header names {name!r}, expected EVT 2.0, 2.1 or 3.0; "
            "name the format if you know it"
        )
    return EVT_FORMATS[name]


def evt_name(header: PropheseeHeader) -> str:
    """Return the encoding as the header names it; empty where it does not."""
    return header.format_options["name"] or header.fields.get("evt", "").strip()


def looks_like_headerless_dat(head: bytes) -> bool:
    """Whether these are records of DAT version 1 without any header."""
    return looks_like_records(head, dat_layout(VERSION_1_HW, version=1))
