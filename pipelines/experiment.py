"""An experiment: what to train on which data. Dataclasses, filled from a TOML file and `--set` values."""

import copy
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from events.augment import AugmentSettings
from events.batches import Cache
from events.binning.settings import BinSettings
from events.errors import did_you_mean
from events.synth.digits import DigitSettings
from pipelines.errors import ExperimentError
from pipelines.settings_tree import assign, build_settings, parse_assignment, presets_first
from pipelines.smoke import MADE_HERE, Change, smoke_changes
from snn.models.registry import ModelSettings
from snn.training.settings import TrainSettings

DEFAULT_EXPERIMENT = "digits"

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DataSettings:
    """Which recordings, and how they become frames.

    Attributes:
        dataset: `digits` makes its own recordings, `digit-pictures` its own pictures; else a name of
            `events datasets`.
        source: Folder of recordings or pictures, or a store made by `events convert`; None where the data
            is made here.
        folder: Where recordings and stores made on the way are kept.
        split: Named split of the data set; None takes its default.
        binning: How events become frames.
        digits: What recordings are made, for `digits`; for `digit-pictures`, how many of each digit.
        validation_share: Share of the training samples of every class kept for validation, where the
            store has no validation split of its own.
        cache: Whether decoded frames stay in memory: `none`, `decoded`, or `auto` up to 1 GiB.
        workers: Processes that make and convert recordings; 0 takes one for each core.
    """

    dataset: str = MADE_HERE
    source: str | None = None
    folder: str = "data"
    split: str | None = None
    binning: BinSettings = field(default_factory=BinSettings)
    digits: DigitSettings = field(default_factory=DigitSettings)
    validation_share: float = 0.1
    cache: Cache = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ExperimentError(
                f"data.validation_share must be between 0 and 1, got {self.validation_share}; "
                "the best epoch is chosen on these samples, never on test samples"
            )
        if self.workers < 0:
            raise ExperimentError(f"data.workers must be at least 0, got {self.workers}")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run.

    Attributes:
        name: Short name, the beginning of its run folders' names.
        description: What it is, in one line.
        seed: Decides weights, order, augmentation, dropout and the validation split.
        data: Which recordings, and how they become frames.
        augment: What a training sample goes through.
        model: Which network.
        training: How it is trained.
    """

    name: str = "experiment"
    description: str = ""
    seed: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ExperimentError(f"seed must be from 0 to 2**63 - 1, got {self.seed}")


def embedded_experiments() -> dict[str, Path]:
    """Return the experiments that come with the package: file by name."""
    return embedded_files("experiments")


def embedded_files(folder: str) -> dict[str, Path]:
    """Return the TOML files of a folder of this package by name."""
    path = Path(str(files("pipelines"))) / folder
    return {file.stem: file for file in sorted(path.glob("*.toml"))}


def find_experiment(name: str | Path) -> Path:
    """Return the file of an experiment, given by path or by the name of an embedded one.

    Raises:
        ExperimentError: There is neither; names the nearest embedded one.
    """
    return find_file(name, embedded_experiments(), what="experiment")


def find_file(name: str | Path, embedded: Mapping[str, Path], *, what: str) -> Path:
    """Return a file given by path or by its name among embedded ones; `what` they are is for the message.

    Raises:
        ExperimentError: There is neither; names the nearest embedded one.
    """
    path = Path(name)
    if path.is_file():
        return path
    if str(name) in embedded:
        return embedded[str(name)]
    raise ExperimentError(
        f"{name}: neither a file nor an embedded {what}; embedded: {', '.join(embedded)}"
        f"{did_you_mean(name, embedded)}"
    )


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ExperimentError: It cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExperimentError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: no TOML file ({error})") from error


def load_experiment(name: str | Path, assignments: Sequence[str] = (), *, smoke: bool = False) -> Experiment:
    """Load an experiment and change it by `--set` values.

    Args:
        name: Path of a TOML file, or the name of an embedded experiment.
        assignments: Values such as `training.epochs=20`, applied in order; presets such as
            `model.neuron.preset=mlif` begin their table anew and are applied first.
        smoke: Make it a try of a minute before that, see `pipelines.smoke`.

    Raises:
        ExperimentError: The file, a setting or a value cannot be used.
    """
    return load_file(Experiment, find_experiment(name), assignments, smoke_changes if smoke else None)


def load_file(
    kind: type[Settings],
    path: Path,
    assignments: Sequence[str],
    try_changes: Callable[[Mapping[str, Any]], list[Change]] | None,
) -> Settings:
    """Load settings of a kind from a TOML file, and change them.

    Args:
        kind: Their dataclass.
        path: The file.
        assignments: As of `load_experiment`.
        try_changes: Returns what makes a try of the file's table; None leaves it as it is.

    Raises:
        ExperimentError: The file, a setting or a value cannot be used.
    """
    table = read_table(path)
    table.setdefault("name", path.stem)
    # The file alone first, so that a message blames the file or --set, whichever it was.
    settings = build_settings(kind, table, where=str(path))
    if not assignments and try_changes is None:
        return settings
    changed = copy.deepcopy(table)
    for names, value in try_changes(table) if try_changes is not None else ():
        assign(changed, names, value)
    for names, value in presets_first(map(parse_assignment, assignments)):
        assign(changed, names, value)
    return build_settings(kind, changed, where="--set")
