"""Check that golden vectors are reproduced.

    python tests/golden_check.py DIR [DIR ...] [--known-only]

Runs every golden vector below the folders: files named .npz, of the kinds in `golden/kinds.py`. Prints one
line for each file that fails and ends with `N passed, M failed`. A kind without a check counts as failed;
with `--known-only` it is left out. Exit code: 0 all passed, 1 any failed, 2 a folder without vectors.
"""

import argparse
import sys
import zipfile
import zlib
from pathlib import Path

from golden.kinds import check_for
from golden.vector import Vector

from events.errors import EventsError
from snn.errors import SnnError

# What a check, a wrong result or a damaged file can raise. Anything else is a fault of the checker: it stops.
FAILURES = (
    AssertionError,
    EventsError,
    SnnError,
    ImportError,
    LookupError,
    ArithmeticError,
    TypeError,
    ValueError,
    RuntimeError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def find_vectors(folder: Path) -> list[Path]:
    """Return the golden files below a folder, sorted; a recording without its .npz is one that will fail."""
    recordings = (path.with_suffix(".npz") for path in folder.rglob("*.aedat"))
    return sorted({*folder.rglob("*.npz"), *recordings})


def failure(path: Path, *, known_only: bool) -> tuple[str | None, bool]:
    """Run one vector. Return why it failed (None: it did not) and whether it was left out."""
    try:
        check = check_for(path)
        if check is None:
            return (None, True) if known_only else ("no check for this kind of file", False)
        vector = Vector(path)
        check(vector)
        vector.finish()
    except FAILURES as error:
        return " ".join(f"{type(error).__name__}: {error}".split()), False
    return None, False


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Check that golden vectors are reproduced.")
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path)
    parser.add_argument("--known-only", action="store_true", help="leave out kinds without a check")
    options = parser.parse_args(arguments)
    passed = failed = left_out = 0
    for folder in options.folders:
        vectors = find_vectors(folder)
        if not vectors:
            print(f"error: {folder}: no golden vectors (.npz) below this folder", file=sys.stderr)
            return 2
        for path in vectors:
            reason, skipped = failure(path, known_only=options.known_only)
            if reason is not None:
                print(f"FAIL {path}: {reason}")
            failed += reason is not None
            left_out += skipped
            passed += reason is None and not skipped
    if left_out:
        print(f"{left_out} left out: no check for their kind")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
