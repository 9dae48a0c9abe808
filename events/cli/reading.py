"""The options that say how a single recording is read, alike in every command that reads one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from events.recording import ReadOptions

PANEL = "Reading"


def _option(help: str, *flags: str, default: str | Literal[False] = False, metavar: str | None = None) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=PANEL, show_default=default, metavar=metavar)


Orientation = Annotated[
    Literal["jaer", "dat2mat", "spikingjelly", "raw"] | None,
    _option("Which pixel an address means.", default="jaer"),
]
Timestamps = Annotated[
    Literal["unwrap", "dat2mat"] | None,
    _option("Continue wrapped clocks, or repair as dat2mat.m did.", default="unwrap"),
]
Polarity = Annotated[
    Literal["on1", "raw"] | None, _option("1 means brighter, or the stored bit.", default="on1")
]
Damage = Annotated[
    Literal["strict", "skip", "salvage"] | None,
    _option("Fail at damaged bytes, leave them out, or look for events behind them.", default="skip"),
]
Sensor = Annotated[
    str | None,
    _option("Sensor's height x width, such as 180x240.", default="the file's", metavar="HxW"),
]
ReadFormat = Annotated[
    str | None,
    _option("Format of the recording.", "--read-format", default="told by its content", metavar="NAME"),
]
Columns = Annotated[
    str | None,
    _option("Order of columns a file does not name, such as t:us,x,y,p.", metavar="COLUMNS"),
]
Stream = Annotated[
    int | None, _option("Number of the event stream, in a file that holds several.", metavar="N")
]
Topic = Annotated[str | None, _option("Topic of events, in a ROS bag that holds several.", metavar="TOPIC")]


def read_options(*, sensor: str | None, **given: Any) -> "ReadOptions":
    """Return the settings of reading that options say; an option that is None was not given.

    Args:
        sensor: Height and width, such as 180x240.
        **given: Other settings of `ReadOptions` by name.

    Raises:
        ConfigError: The sensor's size cannot be understood.
    """
    from events.cli.convert import parse_size
    from events.recording import ReadOptions

    chosen = {name: value for name, value in given.items() if value is not None}
    return ReadOptions(sensor_hw=parse_size(sensor, option="--sensor"), **chosen)


def refuse_for_store(path: Path, options: "ReadOptions") -> None:
    """Refuse options of reading where a store is looked at.

    Raises:
        ConfigError: There is one.
    """
    from events.errors import ConfigError
    from events.recording import ReadOptions

    if options != ReadOptions():
        raise ConfigError(f"{path}: its recordings are decoded already; leave out options of reading")
