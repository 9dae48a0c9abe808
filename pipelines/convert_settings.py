"""An experiment that converts: an ANN, its quantised twin, a search of thresholds, fine-tuning of the SNN."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from events.augment import AugmentSettings
from events.errors import did_you_mean
from pipelines.errors import ExperimentError
from pipelines.experiment import DataSettings, Experiment, embedded_files, find_file, load_file
from pipelines.smoke import Change, smoke_changes
from snn.conversion.thresholds import ThresholdSettings
from snn.models.registry import CONVERTIBLE, ModelSettings
from snn.quant.levels import LevelSettings
from snn.training.settings import TrainSettings

DEFAULT_CONVERSION = "digit_pictures_resnet20"
# Stages that train a network, each a run in a folder of its name.
TRAINED = ("ann", "quantised", "snn")


@dataclass(frozen=True)
class QuantisedSettings:
    """The quantised ANN: what activations of few levels cost without spikes. Nothing follows from it.

    Attributes:
        train: Whether there is one.
        levels: Its activations.
        training: How it is trained, from the weights of the ANN.
    """

    train: bool = True
    levels: LevelSettings = field(default_factory=LevelSettings)
    training: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class SearchSettings:
    """The search of thresholds.

    Attributes:
        samples: How many training samples it is shown, evenly spaced; none takes all.
        thresholds: How it is done.
    """

    samples: int | None = None
    thresholds: ThresholdSettings = field(default_factory=ThresholdSettings)

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ExperimentError(
                f"search.samples: found {self.samples}, an empty calibration set, expected 1 or more, or none"
            )


@dataclass(frozen=True)
class ConvertExperiment:
    """Everything that decides a conversion.

    Attributes:
        name: Short name, the beginning of its run folders' names.
        description: What it is, in one line.
        seed: Decides weights, order, augmentation, dropout and the validation split.
        data: Which pictures.
        augment: What a training sample goes through.
        model: The network as it ends, with neurons; its dropout is that of the fine-tuning.
        ann_dropout: Share of hidden features dropped while ANNs are trained.
        ann_conv_dropout: Share of what convolutions hand on that is dropped then.
        ann: How the ANN is trained.
        quantised: Its quantised twin.
        search: How thresholds are found.
        snn: How the SNN is fine-tuned.
    """

    name: str = "conversion"
    description: str = ""
    seed: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: ModelSettings = field(default_factory=lambda: ModelSettings(name="resnet20", steps=1))
    ann_dropout: float = 0.5
    ann_conv_dropout: float = 0.0
    ann: TrainSettings = field(default_factory=TrainSettings)
    quantised: QuantisedSettings = field(default_factory=QuantisedSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    snn: TrainSettings = field(default_factory=TrainSettings)

    def __post_init__(self) -> None:
        model = self.model
        if model.name not in CONVERTIBLE:
            raise ExperimentError(
                f"model.name: found {model.name!r}, expected one of {', '.join(CONVERTIBLE)}"
                f"{did_you_mean(model.name, CONVERTIBLE)}"
            )
        if model.activation != "neurons" or model.batch_norm:
            raise ExperimentError(
                "model: describes the network as it ends, with neurons and normalisations folded; "
                "leave out activation and batch_norm"
            )
        if model.steps is None:
            raise ExperimentError("model.steps: found none, expected the steps T of the SNN, such as 1")
        if model.weights.anything or model.sparsity.kind != "none":
            raise ExperimentError(
                "model: found weights in few bits or gates, which are not converted; set them in a run from "
                "the converted network, with `pipelines run classify --from`"
            )
        if model.neuron.threshold_constraint == "sigmoid" or model.neuron.spike_value != "one":
            raise ExperimentError(
                "model.neuron: found thresholds kept below 1 or spikes of learned values, expected "
                "thresholds that may be any number above 0; use threshold_constraint 'none' or 'positive'"
            )
        trained = {"ann": self.ann, "quantised.training": self.quantised.training, "snn": self.snn}
        for name, training in trained.items():
            if training.start_from is not None:
                raise ExperimentError(f"{name}.start_from: stages begin with each other; use --from STAGE.pt")
            if training.nodes > 1:
                raise ExperimentError(
                    f"{name}.nodes: found {training.nodes}, but a conversion runs on one machine; "
                    f"set {name}.devices for several processes there"
                )

    def stage(self, name: str, *, start_from: Path | None = None) -> Experiment:
        """Return a stage that trains, as an experiment of its own.

        Args:
            name: One of `TRAINED`.
            start_from: Checkpoint whose weights it begins with.
        """
        training = {"ann": self.ann, "quantised": self.quantised.training, "snn": self.snn}[name]
        if start_from is not None:
            training = replace(training, start_from=str(start_from))
        return Experiment(
            name=f"{self.name}-{name}",
            description=self.description,
            seed=self.seed,
            data=self.data,
            augment=self.augment,
            model=self.model if name == "snn" else self.ann_model(quantised=name == "quantised"),
            training=training,
        )

    def ann_model(self, *, quantised: bool = False) -> ModelSettings:
        """Return the network as an ANN, which sees a picture once."""
        return replace(
            self.model,
            activation="quantised" if quantised else "relu",
            levels=self.quantised.levels,
            steps=1,
            dropout=self.ann_dropout,
            conv_dropout=self.ann_conv_dropout,
        )


def embedded_conversions() -> dict[str, Path]:
    """Return the conversions that come with the package: file by name."""
    return embedded_files("experiments/convert")


def load_conversion(
    name: str | Path, assignments: Sequence[str] = (), *, smoke: bool = False
) -> ConvertExperiment:
    """Load a conversion and change it by `--set` values; arguments as `pipelines.experiment.load_experiment`.

    Raises:
        ExperimentError: The file, a setting or a value cannot be used.
    """
    path = find_file(name, embedded_conversions(), what="conversion")
    return load_file(ConvertExperiment, path, assignments, _smoke_changes if smoke else None)


def _smoke_changes(table: Mapping[str, Any]) -> list[Change]:
    """Return what to change in a conversion's table to make it a try."""
    return [(place, value) for names, value in smoke_changes(table) for place in _places(names)]


def _places(names: list[str]) -> list[list[str]]:
    """Return where a setting of a try is in a conversion: training is there three times."""
    if names[0] != "training":
        return [names]
    return [["ann", *names[1:]], ["quantised", *names], ["snn", *names[1:]]]
