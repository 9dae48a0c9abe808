"""Checkpoints of a conversion's stages: each names the one it was made from and what it is good for."""

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.errors import RunError
from snn.training.checkpoint import load_checkpoint, save_checkpoint

# From which stage each is made.
PARENTS: dict[str, str | None] = {
    "ann": None,
    "quantised": "ann",
    "folded": "ann",
    "thresholds": "folded",
    "snn": "thresholds",
}
# Stages that are of a number of lanes.
OF_LANES = ("thresholds", "snn")
# Stages that a conversion can begin with.
BEGINNINGS = ("ann", "folded", "thresholds")


@dataclass(frozen=True)
class Stage:
    """What a stage left.

    Attributes:
        name: Key of `PARENTS`.
        model: Weights by name.
        parent: SHA-256 of the checkpoint it was made from; None of the first.
        network: What the network is: name, width, planes, height, width, classes.
        lanes: Lanes of its neurons; None before there are any.
        results: What is known so far, by stage: accuracy, energy and the like.
    """

    name: str
    model: dict[str, Tensor]
    parent: str | None
    network: list[Any]
    lanes: int | None = None
    results: dict[str, Any] = field(default_factory=dict)


class StageFolder:
    """The stages of one conversion, one file each."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        """Return the file of a stage."""
        return self.path / f"{name}.pt"

    def has(self, name: str) -> bool:
        """Return whether a stage is done."""
        return self.file(name).is_file()

    def hash_of(self, name: str | None) -> str | None:
        """Return the SHA-256 of a stage's file; None of None."""
        return None if name is None else sha256(self.file(name))

    def write(self, stage: Stage) -> None:
        """Write what a stage left."""
        self.path.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self.file(stage.name),
            {
                "stage": stage.name,
                "parent": stage.parent,
                "network": stage.network,
                "lanes": stage.lanes,
                "results": stage.results,
                "model": stage.model,
            },
        )

    def read(self, name: str, *, network: list[Any], lanes: int) -> Stage:
        """Return what a stage left, once it is sure that it belongs here.

        Args:
            name: Of the stage.
            network: What the network must be.
            lanes: Of the conversion's neurons.

        Raises:
            RunError: It is of another stage, network or number of lanes, or made from another parent.
        """
        stage = read_stage(self.file(name), expected=(name,), network=network, lanes=lanes)
        parent = PARENTS[name]
        if parent is not None and self.has(parent) and stage.parent != self.hash_of(parent):
            raise RunError(
                f"{self.file(name)}: made from a checkpoint {_short(stage.parent)} that is not "
                f"{self.file(parent)} ({_short(self.hash_of(parent))}); restore that one, or delete this "
                "file and what follows from it to make it again"
            )
        return stage

    def begin_with(self, source: Path, *, network: list[Any], lanes: int) -> str:
        """Take over a stage of another conversion; return which it is.

        Raises:
            RunError: It is of another network or number of lanes, or nothing can begin with it.
        """
        stage = read_stage(source, expected=BEGINNINGS, network=network, lanes=lanes)
        self.path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.file(stage.name))
        return stage.name

    def note_begun(self, name: str, parent_hash: str | None) -> None:
        """Note what a stage that trains has begun with, before it has left anything."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / f"{name}.begun").write_text(parent_hash or "", encoding="utf-8")

    def check_begun(self, name: str) -> None:
        """Raise RunError where an interrupted stage had begun with another parent than is there now."""
        note = self.path / f"{name}.begun"
        if not note.is_file():
            return
        began, now = note.read_text(encoding="utf-8"), self.hash_of(PARENTS[name]) or ""
        if began != now:
            raise RunError(
                f"{self.file(PARENTS[name] or name)}: changed ({_short(began)} before, {_short(now)} now) "
                f"since stage {name!r} began with it; restore it, or start a new conversion"
            )


def read_stage(path: Path, *, expected: tuple[str, ...], network: list[Any] | None, lanes: int) -> Stage:
    """Read the checkpoint of a stage and check what it is.

    Args:
        path: The checkpoint.
        expected: Stages that it may be of.
        network: What the network must be; None where that is not known yet.
        lanes: Of the conversion's neurons.

    Raises:
        RunError: It is none, or of another stage, network or number of lanes.
        TrainingError: It is no checkpoint at all.
    """
    content = load_checkpoint(path)
    name = content.get("stage")
    if name not in expected:
        found = f"a checkpoint of stage {name!r}" if name else "no stage of a conversion"
        raise RunError(
            f"{path}: found {found}, expected {' or '.join(expected)}; "
            "stages are in RUN/stages of a `pipelines run convert`"
        )
    if network is not None and content["network"] != network:
        raise RunError(f"{path}: of a network {content['network']}, expected {network}; use that experiment")
    if name in OF_LANES and content["lanes"] != lanes:
        raise RunError(
            f"{path}: its thresholds are for {content['lanes']} lanes (they contain 1 / 2^(S - 1)), expected "
            f"model.neuron.lanes={lanes}; begin with folded.pt, or set lanes={content['lanes']}"
        )
    return Stage(
        name, content["model"], content["parent"], content["network"], content["lanes"], content["results"]
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
