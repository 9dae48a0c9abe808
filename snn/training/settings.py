"""Settings of training: optimizer, schedule, loss, precision, devices."""

from dataclasses import dataclass
from typing import Literal, get_args

from snn.errors import TrainingError
from snn.losses import LossOf

OptimizerName = Literal["adamw", "adam", "amsgrad", "lamb", "sgd"]
Schedule = Literal["cosine", "step", "milestones", "constant"]
ThresholdSchedule = Literal["same", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]
MeanThreshold = Literal["mean_threshold"]


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes:
        epochs: Times every training sample is seen.
        batch_size: Samples a step, over all processes together.
        optimizer: `adamw` (decay apart from the gradient), `adam`, `amsgrad` (Adam whose steps never grow
            back), `lamb` (steps as long as a tensor's norm, for large batches), or `sgd` with momentum.
        learning_rate: Highest learning rate.
        momentum: Of `sgd` alone, from 0 to below 1.
        weight_decay: Of convolution and linear weights; thresholds, biases and norms never decay.
        schedule: `cosine` falls from `learning_rate` to `final_learning_rate` over all steps. `step` is
            multiplied by `step_factor` after every `step_epochs` epochs. `milestones`: at each of them.
            `constant` stays.
        step_epochs: Epochs between the falls of `step`.
        step_factor: What remains of the learning rate at each, above 0 and below 1.
        milestones: Shares of the epochs after which the rate falls; whole epochs, rounded down.
        warmup_epochs: Epochs over which the learning rate first rises from 0, may be a fraction.
        warmup_from: Learning rate it rises from.
        final_learning_rate: Learning rate the cosine ends at.
        threshold_learning_rate: Highest learning rate of thresholds; none takes `learning_rate`.
        threshold_schedule: Whether that rate follows the `same` schedule, or stays `constant`.
        threshold_floor: Least value of a learned threshold, above 0, kept after every step; none leaves them.
        decay_bounds: Least and largest value of a learned decay, kept after every step; none leaves them.
        loss_weight: Lambda of the TET loss, from 0 (cross entropy alone) to 1.
        loss_of: What is classified: `steps`, the logits of every step, or `mean`, their mean over steps.
        label_smoothing: Share of each label that is spread over all classes, from 0 to below 1.
        loss_target: Value the logits are drawn to, or `mean_threshold`: 1 at the start of an epoch,
            then the mean of the learned thresholds (LT-SNN).
        gradient_clip: Largest norm of all gradients together; None leaves them.
        accumulate: Parts into which a batch is divided: they are run one after the other and their gradients
            are added, so that a batch needs the memory of a part. Statistics of batch norm are each part's.
        average_decay: Share kept per step of a moving mean of all weights, which is then what is validated,
            tested and kept as best; none takes the weights as they are.
        precision: `fp32`, or half precision where it is safe: `bf16`, `fp16` (with loss scaling).
            `auto` takes bf16 on a GPU that has it, else fp32.
        device: `auto` takes a CUDA GPU where there is one.
        devices: Processes on a machine, one for each GPU or, on CPU, as many as asked for.
        nodes: Machines, each with as many processes.
        deterministic: Use only algorithms that give the same bits every time.
        threads: Threads of one operation on the CPU; 0 leaves the choice to torch.
        checkpoint_every_s: Seconds between checkpoints inside an epoch; one is also written after each.
        start_from: Run folder or checkpoint whose weights training begins with, such as a network in float
            that goes on with weights in few bits; None draws new ones.
    """

    epochs: int = 30
    batch_size: int = 32
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    step_epochs: int = 30
    step_factor: float = 0.7
    milestones: tuple[float, ...] = (0.4, 0.6, 0.8)
    warmup_epochs: float = 0.0
    warmup_from: float = 0.0
    final_learning_rate: float = 0.0
    threshold_learning_rate: float | None = None
    threshold_schedule: ThresholdSchedule = "same"
    threshold_floor: float | None = None
    decay_bounds: tuple[float, float] | None = None
    loss_weight: float = 0.05
    loss_of: LossOf = "steps"
    label_smoothing: float = 0.0
    loss_target: float | MeanThreshold = 1.0
    gradient_clip: float | None = None
    accumulate: int = 1
    average_decay: float | None = None
    precision: Precision = "auto"
    device: Device = "auto"
    devices: int = 1
    nodes: int = 1
    deterministic: bool = True
    threads: int = 0
    checkpoint_every_s: float = 60.0
    start_from: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices", "nodes", "step_epochs", "accumulate"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}")
        at_least_0 = ("weight_decay", "warmup_epochs", "warmup_from", "final_learning_rate", "threads")
        for name in (*at_least_0, "checkpoint_every_s"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise TrainingError(f"learning_rate must be above 0, got {self.learning_rate}")
        self._check_thresholds()
        if not all(0 < share < 1 for share in self.milestones):
            raise TrainingError(f"milestones must be shares between 0 and 1, got {list(self.milestones)}")
        if not 0 <= self.momentum < 1:
            raise TrainingError(f"momentum must be from 0 to below 1, got {self.momentum}")
        if not 0 < self.step_factor < 1:
            raise TrainingError(f"step_factor must be above 0 and below 1, got {self.step_factor}")
        if not 0 <= self.loss_weight <= 1:
            raise TrainingError(f"loss_weight must be from 0 to 1, got {self.loss_weight}")
        if self.loss_of not in get_args(LossOf):
            raise TrainingError(f"loss_of must be one of {', '.join(get_args(LossOf))}, got {self.loss_of!r}")
        if not 0 <= self.label_smoothing < 1:
            raise TrainingError(f"label_smoothing must be from 0 to below 1, got {self.label_smoothing}")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise TrainingError(f"gradient_clip must be above 0, got {self.gradient_clip}; none turns it off")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise TrainingError(
                f"average_decay must be above 0 and below 1, got {self.average_decay}; none turns it off"
            )
        if self.accumulate > 1 and self.processes > 1:
            raise TrainingError(
                f"accumulate is {self.accumulate} and {self.processes} devices share a batch already; "
                "use accumulate=1, or one device"
            )
        if self.batch_size % self.processes:
            raise TrainingError(
                f"batch_size {self.batch_size} cannot be shared by {self.processes} devices; "
                f"use a multiple of {self.processes}"
            )

    @property
    def processes(self) -> int:
        """How many processes train together, on all machines."""
        return self.devices * self.nodes

    def _check_thresholds(self) -> None:
        """Raise TrainingError where what is said of thresholds and decays cannot be kept."""
        for name in ("threshold_learning_rate", "threshold_floor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{name} must be above 0, got {value}; none turns it off")
        if self.decay_bounds is not None and not 0 <= self.decay_bounds[0] <= self.decay_bounds[1] <= 1:
            raise TrainingError(
                f"decay_bounds must be two numbers from 0 to 1, the smaller first, "
                f"got {list(self.decay_bounds)}"
            )
