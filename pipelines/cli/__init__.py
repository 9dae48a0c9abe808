"""The program `pipelines`: run, evaluate, export, report, experiments, doctor.

Only typer and the standard library are imported here, everything else inside the commands, so that
help comes at once. Exit codes: 0 ok, 1 a problem was found, 2 wrong usage or settings, 130 interrupted.
"""

from pipelines.cli.program import app, main

__all__ = ["app", "main"]
