"""Where the real recordings and the golden vectors are."""

import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "data" / "golden"
SHARED = Path(os.environ.get("SPIKELINE_SHARED", Path(__file__).parents[2] / "shared"))


def shared_file(relative: str) -> Path:
    """Return a file or folder beside the project that is not part of it, such as a real recording.

    Where it is absent the test is skipped by name; in continuous integration (CI=true) it fails.
    """
    path = SHARED / relative
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{path}: missing; continuous integration has the real recordings")
        pytest.skip(f"real recording {relative} is not on this machine")
    return path
