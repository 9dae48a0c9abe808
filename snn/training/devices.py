"""Where training runs: device, precision and processes, through Lightning Fabric (docs/decisions/0002)."""

import os
from typing import Any

import torch

from snn.errors import TrainingError
from snn.training.settings import TrainSettings

# Fabric's names of our precisions.
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def make_fabric(settings: TrainSettings) -> Any:
    """Return the Fabric that places models and batches, not launched yet.

    More than one device starts that many processes with torch's DistributedDataParallel: gloo on CPU,
    NCCL on GPUs. Under `torchrun` or SLURM their processes are used instead.

    Raises:
        TrainingError: The device is not there, or has not that precision.
    """
    # Half a second and more to import, so only where something is trained.
    from lightning_fabric import Fabric

    device = _device(settings)
    precision = _precision(settings, device)
    strategy = "ddp_spawn" if settings.devices > 1 else "auto"
    return Fabric(
        accelerator=device, devices=settings.devices, strategy=strategy, precision=PRECISIONS[precision]
    )


def _device(settings: TrainSettings) -> str:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.device == "cpu" or (settings.device == "auto" and there == 0):
        return "cpu"
    if there < settings.devices:
        raise TrainingError(
            f"{settings.devices} CUDA devices asked for, {there} found; use training.device=cpu or "
            "a torch built for CUDA, `pipelines doctor` shows which is installed"
        )
    return "cuda"


def _precision(settings: TrainSettings, device: str) -> str:
    if settings.precision == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if settings.precision == "fp16" and device == "cpu":
        raise TrainingError("precision fp16 needs a GPU; use fp32, or bf16 on a CPU that has it")
    return settings.precision


def set_reproducible(settings: TrainSettings) -> None:
    """Set threads and, where asked for, algorithms that give the same bits every time."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = not settings.deterministic
    torch.backends.cudnn.deterministic = settings.deterministic
    if settings.deterministic:
        # cuBLAS wants this before its first call (CUDA toolkit documentation, cuBLAS 2.1.4).
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
