"""The catalogue of known sets: complete, well-formed, and readable as a table."""

import json
import re

import pytest

from events.datasets.catalogue import CATALOGUE, catalogue_rows, format_catalogue, format_known_set
from events.datasets.detection.registry import DETECTION_SETS
from events.datasets.registry import DATASETS


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_set_says_what_a_user_must_know(name):
    known = CATALOGUE[name]
    for fact in (
        known.title,
        known.sensor,
        known.recordings,
        known.layout,
        known.licence,
        known.licence_source,
    ):
        assert fact.strip()
    assert re.match(r"https?://", known.page)
    assert re.search(r"\b(19|20)\d\d\b", known.citation)  # a year
    assert known.convert_as is None or known.convert_as in {*DATASETS, *DETECTION_SETS}
    assert known.classes is None or known.classes > 0


def test_files_have_addresses_and_checksums():
    files = [file for known in CATALOGUE.values() for file in known.files]
    assert len({file.url for file in files}) == len(files)
    for file in files:
        assert file.url.startswith("https://")
        assert "/" not in file.name
        assert re.fullmatch(r"[0-9a-f]{32}", file.md5 or "")
    for known in CATALOGUE.values():
        assert len({file.name for file in known.files}) == len(known.files)


def test_cifar10_dvs_has_an_archive_per_class():
    # The addresses and checksums in event_io section 3 of the project's specifications.
    files = {file.name: (file.url.rpartition("/")[2], file.md5) for file in CATALOGUE["dvs-cifar10"].files}
    assert len(files) == 10
    assert files["airplane.zip"] == ("7712788", "0afd5c4bf9ae06af762a77b180354fdd")
    assert files["truck.zip"] == ("7712839", "89f3922fd147d9aeff89e76a2b0b70a7")


def test_every_data_set_with_a_name_of_its_own_is_described():
    assert set(DATASETS) - {"folder", "image-folder"} <= set(CATALOGUE)


def test_rows_are_plain_json():
    rows = catalogue_rows()
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == list(CATALOGUE)
    assert rows[0]["files"][0]["name"] == "airplane.zip"


@pytest.mark.parametrize("width", [60, 110])
def test_table_names_every_set_within_its_width(width):
    text = format_catalogue(width=width)
    assert max(len(line) for line in text.splitlines()) <= max(width, 70)
    assert "\x1b" not in text
    for name in CATALOGUE:
        if width == 110:
            assert re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)
    assert text.endswith("read the licence at its source before use")


def test_one_set_in_full():
    text = format_known_set("nmnist")
    assert "licence     CC BY-SA 4.0, as stated on the authors' page\n" in text
    assert "20959b8e626244a1b502305a9e6e2031" in text
    assert "by hand, from https://www.prophesee.ai" in format_known_set("gen1")
