"""Checking a store of frames: what each level finds, and comparing it with its recordings."""

import json

import pytest
from suites.store_tree import DAMAGES, SETTINGS, damage_file, file_bytes, list_tree, write_tree

from events.convert import convert
from events.store.check import check_store


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shard_is_found_and_made_again(listing, whole, tmp_path, damage):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    shard = store / "frames" / "c.1.0.0.0.0"
    stored_bytes = damage_file(shard, damage)
    expected = {
        "flip": "CRC-32C of the file differs",
        "cut": f"{stored_bytes - 1} bytes, exp",
        "delete": "missing",
    }
    assert any(expected[damage] in problem for problem in check_store(store).problems)
    assert convert(listing, store, SETTINGS).shards_written == 1
    assert check_store(store).problems == []
    assert file_bytes(store) == file_bytes(whole)


@pytest.mark.parametrize("level", ["fast", "index", "full"])
def test_check_levels_see_what_they_say(listing, tmp_path, level):
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    shard = store / "frames" / "c.0.0.0.0.0"
    stored = bytearray(shard.read_bytes())
    stored[10] ^= 1
    stored[-1] ^= 1
    shard.write_bytes(stored)
    problems = " | ".join(check_store(store, level=level).problems)
    assert ("shard index is wrong" in problems) == (level != "fast")
    assert ("CRC-32C of the file" in problems) == (level == "full")


def test_check_finds_a_changed_column(listing, tmp_path):
    import zarr

    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    group = zarr.open_group(store, mode="r+")
    group["n_events"][2] = 401
    group["label"][3] = 9
    problems = check_store(store).problems
    assert "label: 1 samples have a label outside 0 to 2" in problems
    assert "n_events: differs from the manifest" in problems
    assert "sample 2: 400 counts in its frames, n_events is 401" in problems


def test_check_against_finds_a_changed_recording(tree, tmp_path):
    copy = write_tree(tmp_path / "dots", per_class=3)
    store = tmp_path / "dots.zarr"
    convert(list_tree(copy), store, SETTINGS)
    report = check_store(store, against=copy)
    assert (report.problems, report.recordings_compared) == ([], 9)
    changed = bytearray((copy / "cat" / "1.aedat").read_bytes())
    changed[-1] ^= 1
    (copy / "cat" / "1.aedat").write_bytes(changed)
    (copy / "dog" / "2.aedat").unlink()
    problems = check_store(store, level="fast", against=copy).problems
    assert sorted(problems) == [
        "cat/1.aedat: its content changed since the conversion",
        f"dog/2.aedat: missing in {copy}",
    ]


def test_check_against_decodes_again(tree, listing, tmp_path):
    """Frames that are intact but not those of the recordings: made with another orientation."""
    store = tmp_path / "dots.zarr"
    convert(listing, store, SETTINGS)
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["event_store"]["read"]["orientation"] = "raw"
    (store / "zarr.json").write_text(json.dumps(metadata))
    report = check_store(store, against=tree)
    assert len(report.problems) == 9
    assert all("decoding it again gives other frames than sample" in problem for problem in report.problems)
