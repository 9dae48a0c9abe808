"""The program `events`: from recordings to stores of frames, and a look at both.

Exit codes: 0 ok, 1 a problem was found, 2 wrong usage or settings, 3 done but some files failed or
were damaged, 130 interrupted. Data goes to standard output, progress and messages to standard error.
"""

from events.cli.program import app, main

__all__ = ["app", "main"]
