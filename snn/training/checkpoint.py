"""Checkpoints: everything that decides how training goes on, in one file that is whole or not there."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn.errors import TrainingError
from snn.whole_file import whole_file

CHECKPOINT_FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint: into a file beside it, to the disk, then into place under its name.

    Args:
        path: File to write or replace.
        content: Tensors, numbers, text, and lists, tuples and dictionaries of them.
    """
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save({"format": CHECKPOINT_FORMAT} | content, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Nothing in the file is executed.

    Raises:
        TrainingError: There is none, it is damaged, or of another format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: no checkpoint is there") from error
    except (RuntimeError, ValueError, EOFError, OSError, torch.serialization.pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainingError(f"{path}: not a checkpoint, or damaged ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise TrainingError(
            f"{path}: checkpoint format {found}, expected {CHECKPOINT_FORMAT}; use the version that wrote it"
        )
    return content


def random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process: torch, its GPU, NumPy, Python."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": (torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(cached)),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put every random generator of this process where `random_state` found it."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
