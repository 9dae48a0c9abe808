"""A small tree of recordings and a store made of it, shared by the tests of conversions.

Tests write to copies; a file that needs other recordings has fixtures of its own under these names.
"""

from pathlib import Path

import pytest
from suites.store_tree import SETTINGS, list_tree, write_tree

from events.convert import convert
from events.datasets.listing import Listing


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Nine recordings in three classes."""
    return write_tree(tmp_path_factory.mktemp("tree") / "dots", per_class=3)


@pytest.fixture(scope="session")
def listing(tree) -> Listing:
    """The recordings of `tree`, half of them for training."""
    return list_tree(tree)


@pytest.fixture(scope="session")
def whole(listing, tmp_path_factory) -> Path:
    """A store of `listing` made without a break, in three shards."""
    store = tmp_path_factory.mktemp("whole") / "dots.zarr"
    convert(listing, store, SETTINGS, workers=0)
    return store
