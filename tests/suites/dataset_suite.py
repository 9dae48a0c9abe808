"""What every data set's lister must do, whatever its layout: subclass it, and make one tree."""

from collections import Counter
from pathlib import Path

import pytest

from events.datasets.listing import SPLIT_NAMES
from events.datasets.registry import DATASETS, list_samples
from events.datasets.splits import canonical_split
from events.errors import ConfigError, DatasetError


class DatasetSuite:
    """Conformance of one entry of DATASETS.

    A subclass names the entry and writes a good tree: at least two classes, at least ten recordings
    in each, no two alike, nothing missing or extra.
    """

    dataset: str

    def write_good_tree(self, root: Path) -> None:
        """Write the tree below `root`, which is empty."""
        raise NotImplementedError

    def drop_one_class(self, root: Path) -> None:
        """Leave a whole class of the good tree without recordings."""
        raise NotImplementedError

    @pytest.fixture
    def tree(self, tmp_path):
        root = tmp_path / "recordings"
        root.mkdir()
        self.write_good_tree(root)
        return root

    def test_lists_every_recording_once_in_the_promised_order(self, tree):
        listing = list_samples(self.dataset, tree)
        order = [(sample.label, sample.number, sample.path) for sample in listing.samples]
        assert order == sorted(order)
        assert len({(sample.path, sample.t_range_us) for sample in listing.samples}) == len(listing.samples)
        for sample in listing.samples:
            assert sample.size_bytes == (tree / sample.path).stat().st_size
            assert "\\" not in sample.path
            assert sample.split in SPLIT_NAMES
            assert 0 <= sample.label < len(listing.class_names)
        assert (listing.dataset, listing.root) == (self.dataset, tree)

    def test_every_class_is_in_training_and_test(self, tree):
        listing = list_samples(self.dataset, tree)
        for label in range(len(listing.class_names)):
            assert {"train", "test"} <= {sample.split for sample in listing.samples if sample.label == label}

    def test_random_split_takes_the_same_share_of_each_class(self, tree):
        listing = list_samples(self.dataset, tree, split="random:5:0.8")
        total = Counter(sample.label for sample in listing.samples)
        train = Counter(sample.label for sample in listing.samples if sample.split == "train")
        assert listing.split_rule == "random:5:0.8"
        assert {label: train[label] for label in total} == {label: n * 8 // 10 for label, n in total.items()}

    def test_a_further_folder_around_everything_changes_nothing(self, tree, tmp_path):
        flat = list_samples(self.dataset, tree, split="random:1")
        (tmp_path / "around" / "more").mkdir(parents=True)
        tree.rename(tmp_path / "around" / "more" / "recordings")
        nested = list_samples(self.dataset, tmp_path / "around", split="random:1")
        moved = [(f"more/recordings/{s.path}", s.label, s.split, s.number) for s in flat.samples]
        assert [(s.path, s.label, s.split, s.number) for s in nested.samples] == moved
        assert nested.class_names == flat.class_names

    def test_hidden_files_are_ignored_and_others_counted(self, tree):
        before = list_samples(self.dataset, tree)
        (tree / "__MACOSX").mkdir()
        (tree / "__MACOSX" / "._a.aedat").write_bytes(b"x")
        (tree / ".DS_Store").write_bytes(b"x")
        (tree / "Thumbs.db").write_bytes(b"x")
        (tree / "readme.md").write_bytes(b"x")
        after = list_samples(self.dataset, tree)
        assert after.samples == before.samples
        assert set(after.problems) - set(before.problems) == {
            "1 other file left out (1 .md), first: readme.md"
        }

    def test_empty_recordings_are_listed_and_named(self, tree):
        path = list_samples(self.dataset, tree).samples[0].path
        (tree / path).write_bytes(b"")
        listing = list_samples(self.dataset, tree)
        assert f"1 empty file: {path}" in listing.problems
        assert listing.samples[0].size_bytes == 0

    def test_archives_still_to_unpack_are_named(self, tree):
        (tree / "more.zip").write_bytes(b"x")
        assert (
            "1 archive not unpacked: more.zip; unzip and list again"
            in list_samples(self.dataset, tree).problems
        )

    def test_a_folder_of_archives_says_unzip(self, tmp_path):
        (tmp_path / "airplane.zip").write_bytes(b"x")
        with pytest.raises(
            DatasetError, match=r"no recordings, .*1 archive not unpacked: airplane\.zip; unzip"
        ):
            list_samples(self.dataset, tmp_path)

    def test_an_empty_folder_is_an_error(self, tmp_path):
        with pytest.raises(DatasetError, match=r"no recordings.* expected .*; check the folder"):
            list_samples(self.dataset, tmp_path)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(DatasetError, match=r"nowhere: no such folder; check the spelling"):
            list_samples(self.dataset, tmp_path / "nowhere")

    def test_a_missing_class_is_an_error_unless_allowed(self, tree):
        before = list_samples(self.dataset, tree)
        self.drop_one_class(tree)
        with pytest.raises(DatasetError, match=r"no recordings (of|in) .*; add them.* --allow-missing"):
            list_samples(self.dataset, tree)
        after = list_samples(self.dataset, tree, allow_missing=True)
        assert after.class_names == before.class_names  # labels mean the same with or without it
        assert set(after.samples) < set(before.samples)
        assert any("without a recording" in problem for problem in after.problems)

    def test_an_unknown_split_lists_the_known_ones(self, tree):
        with pytest.raises(
            ConfigError, match=r"split 'half' is not defined for this data set; known: .*random:SEED"
        ):
            list_samples(self.dataset, tree, split="half")

    def test_has_a_row_with_a_usable_default(self):
        entry = DATASETS[self.dataset]
        assert canonical_split(entry.default_split, allowed=entry.splits) == entry.default_split
        assert entry.layout
        assert entry.title
