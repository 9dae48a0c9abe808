"""What a run writes down and shows while it trains: metrics.jsonl, TensorBoard, a line for each epoch."""

import threading
import time
from types import TracebackType
from typing import Any

from pipelines.display import Display
from pipelines.run_folder import RunFolder
from snn.training.fit import EpochRecord
from snn.training.loop import BatchSource, Training
from snn.training.settings import TrainSettings

# Seconds after which the first batch is taken to be waiting for a compiler.
COMPILING_AFTER_S = 4.0


class RunObserver:
    """Writes each epoch to the run folder and to the display."""

    def __init__(
        self, folder: RunFolder, settings: TrainSettings, display: Display, *, compiles: bool = False
    ) -> None:
        """Observe a run.

        Args:
            folder: Where epochs are written down.
            settings: How it is trained.
            display: Who is told how it goes.
            compiles: Whether what runs the neurons may have to be compiled first, which is then said.
        """
        self._folder, self._settings, self._display = folder, settings, display
        self._compiles = compiles
        self._writer: Any = None
        self._began = time.monotonic()
        self._waiting = threading.Timer(COMPILING_AFTER_S, self._say_compiling)
        self._waiting.daemon = True

    def _say_compiling(self) -> None:
        self._display.say(
            "compiling  the first batch takes long: a first run compiles the neurons, and keeps that on disk"
        )

    def go_back_to(self, epoch: int) -> None:
        """Forget epochs after the given number: they are trained again."""
        self._folder.keep_metrics(epoch)
        self._display.say(f"resuming  after epoch {epoch} of {self._settings.epochs}")

    def on_batch(self, training: Training, source: BatchSource) -> None:
        """Show how far the epoch is."""
        self._waiting.cancel()
        means = training.totals.means()
        self._display.progress(
            f"epoch {source.epoch + 1:3d}/{self._settings.epochs}",
            source.batch,
            len(source),
            self._words_of_batch(means),
        )

    def on_epoch(self, record: EpochRecord) -> None:
        """Write an epoch down and print its line."""
        self._folder.append_metrics(record.as_dict())
        self._to_tensorboard(record)
        self._display.say(
            f"epoch {record.epoch:3d}/{self._settings.epochs}  {self._words_of_epoch(record)}"
            f"{' best' if record.best else '     '}  "
            f"{record.train_s:5.1f} s  waited for data {100 * record.data_wait_share:.0f} %"
        )

    def _words_of_batch(self, means: dict[str, float]) -> str:
        """Return what is shown of an epoch's means so far."""
        return f"loss {means['loss']:.3f}  right {100 * means['accuracy']:.1f} %"

    def _words_of_epoch(self, record: EpochRecord) -> str:
        """Return what is shown of an epoch."""
        return (
            f"train loss {record.train['loss']:.3f} accuracy {100 * record.train['accuracy']:5.1f} %  "
            f"validation {100 * record.validation['accuracy']:5.1f} %"
        )

    def _to_tensorboard(self, record: EpochRecord) -> None:
        if self._writer is None:
            # Over a second to import, so not before there is something to write.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder.tensorboard), purge_step=record.epoch)
        scalars = {f"{name}/train": value for name, value in record.train.items()}
        scalars |= {f"{name}/validation": value for name, value in record.validation.items()}
        scalars |= {
            "training/learning_rate": record.learning_rate,
            "training/largest_gradient": record.largest_gradient,
            "training/data_wait_share": record.data_wait_share,
        }
        scalars |= {f"threshold/{name}": value for name, value in record.thresholds.items()}
        scalars |= {f"decay/{name}": value for name, value in record.decays.items()}
        scalars |= {f"firing_rate/{name}": value for name, value in record.firing_rates.items()}
        if record.kept_shares:
            scalars["loss/gates"] = record.gate_loss
        for name, shares in record.kept_shares.items():
            scalars[f"kept_share/{name}"] = sum(shares) / len(shares)
            scalars[f"mask_changes/{name}"] = record.mask_changes[name]
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def __enter__(self) -> "RunObserver":
        if self._compiles:
            self._waiting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.cancel()
        if self._writer is not None:
            self._writer.close()


class DetectionObserver(RunObserver):
    """The same for detectors."""

    def _words_of_batch(self, means: dict[str, float]) -> str:
        return f"loss {means['loss']:.3f}  classes {means['classes']:.3f}  boxes {means['boxes']:.3f}"

    def _words_of_epoch(self, record: EpochRecord) -> str:
        found = record.validation
        return (
            f"train loss {record.train['loss']:.3f}  validation loss {found['loss']:.3f} "
            f"mAP {100 * found['map']:5.1f} AP50 {100 * found['ap50']:5.1f}"
        )
