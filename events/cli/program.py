"""All commands of `events`, put together. Imports nothing heavy, so that `events --help` is there at once."""

from typing import Annotated

import typer

from events.cli.convert import convert
from events.cli.copy import cat, diff
from events.cli.labels import labels_app
from events.cli.look import check, info, view
from events.cli.make import datasets, download, mat, synth_app

app = typer.Typer(
    help="Event-camera recordings to frames to chunked stores.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 ok, 1 problem found, 2 usage, 3 done but some input was damaged, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("spikeline"))
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Event-camera recordings to frames to chunked stores."""


app.command(rich_help_panel="Prepare")(convert)
app.command(rich_help_panel="Prepare")(download)
app.command(rich_help_panel="Prepare")(cat)
app.command(rich_help_panel="Prepare")(mat)
app.add_typer(synth_app, name="synth", rich_help_panel="Prepare")
app.command(rich_help_panel="Look")(info)
app.command(rich_help_panel="Look")(diff)
app.command(rich_help_panel="Look")(check)
app.command(rich_help_panel="Look")(view)
app.command(rich_help_panel="Look")(datasets)
app.add_typer(labels_app, name="labels", rich_help_panel="Look")


def main() -> None:
    """Run the program."""
    app()
