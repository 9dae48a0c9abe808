"""All commands of `pipelines`, put together."""

import os

import typer

from pipelines.cli.about import doctor, experiments
from pipelines.cli.classify import classify
from pipelines.cli.convert import convert
from pipelines.cli.detect import detect
from pipelines.cli.detect_stream import stream
from pipelines.cli.runs import evaluate, export, report

app = typer.Typer(
    name="pipelines",
    help="Train, evaluate and report spiking networks on event-camera recordings.\n\n"
    "Try it: pipelines run classify   (makes its own data; a few minutes on two cores)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_app = typer.Typer(help="Run an experiment from recordings to a report.", no_args_is_help=True)
app.add_typer(run_app, name="run")
run_app.command()(classify)
run_app.command()(convert)
run_app.command()(detect)
detect_app = typer.Typer(help="Look for boxes with a trained detector.", no_args_is_help=True)
app.add_typer(detect_app, name="detect")
detect_app.command()(stream)
app.command()(evaluate)
app.command()(export)
app.command()(report)
app.command()(experiments)
app.command()(doctor)


def main() -> None:
    """Run the program."""
    # Torch's threads then sleep where they wait for each other. On a machine with other work to do a step
    # is three times as fast that way, on an idle one no slower. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()
