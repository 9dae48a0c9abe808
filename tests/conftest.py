"""Fixtures of all tests."""

import sys

import pytest
from hypothesis import settings

from tests.places import GOLDEN, shared_file

# The same examples in every run, and no deadline: machines are shared and kernels compile on first use.
settings.register_profile("spikeline", derandomize=True, deadline=None)
settings.load_profile("spikeline")


@pytest.fixture(autouse=True)
def same_draws():
    """Draw the same weights and inputs in every run, where a test does not seed them itself."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def samples():
    """Return a function from a path below samples/ to the real recording there."""
    return lambda relative: shared_file(f"samples/{relative}")


@pytest.fixture
def golden():
    """Return a function from a path to the golden vector file copied into this project."""
    return lambda relative: GOLDEN / relative
