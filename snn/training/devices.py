"""Where training runs: device, precision and processes, through Lightning Fabric (docs/decisions/0002)."""

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from snn.errors import TrainingError
from snn.training.settings import TrainSettings

# Fabric's names of our precisions.
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

# Longest that processes wait for each other. The first makes the data while the others wait; one that dies is
# noticed at once by other means.
LONGEST_WAIT = timedelta(days=2)


@dataclass(frozen=True)
class World:
    """The processes that were started together, as `torchrun` tells them through the environment.

    Attributes:
        rank: Number of this process, from 0.
        processes: How many there are (WORLD_SIZE).
        processes_here: Of these, on this machine (LOCAL_WORLD_SIZE); as many on every machine.
    """

    rank: int
    processes: int
    processes_here: int

    @property
    def nodes(self) -> int:
        """How many machines there are."""
        return self.processes // self.processes_here


def started_world() -> World | None:
    """Return which of the processes started together this is; None where it was started by itself.

    Raises:
        TrainingError: The environment says one thing and another.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    rank, processes = _whole_number("RANK"), _whole_number("WORLD_SIZE")
    world = World(rank, processes, _whole_number("LOCAL_WORLD_SIZE", 1))
    local = _whole_number("LOCAL_RANK", rank % max(world.processes_here, 1))
    if not (rank < processes and local < world.processes_here) or processes % world.processes_here:
        raise TrainingError(
            f"RANK {rank} of WORLD_SIZE {processes}, LOCAL_RANK {local} of LOCAL_WORLD_SIZE "
            f"{world.processes_here}: expected numbers from 0 and as many processes on every machine; start "
            "with torchrun, which sets all four"
        )
    return world


def _whole_number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise TrainingError(f"{name}: found {text!r} in the environment, expected a whole number")
    return int(text)


def make_fabric(settings: TrainSettings, world: World | None = None) -> Any:
    """Return the Fabric that places models and batches, not launched yet.

    Args:
        settings: Device and precision.
        world: The processes that train together, with torch's DistributedDataParallel: gloo on CPU, NCCL on
            GPUs; launched, Fabric has joined them. None works in this process alone.

    Raises:
        TrainingError: The device is not there, or has not that precision; or processes cannot share batches.
    """
    # Half a second and more to import, so only where something is trained.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    device = _device(settings, 1 if world is None else world.processes_here)
    precision = PRECISIONS[_precision(settings, device)]
    if world is None:
        # Said, lest Fabric look for others in the environment.
        alone = LightningEnvironment()
        return Fabric(accelerator=device, devices=1, precision=precision, plugins=[alone])
    check_shares(settings, world.processes)
    os.environ.setdefault("LOCAL_RANK", "0")
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), timeout=LONGEST_WAIT)
    # It says, over four lines, that processes were found.
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    return Fabric(
        accelerator=device,
        devices=world.processes_here,
        num_nodes=world.nodes,
        strategy=strategy,
        precision=precision,
    )


def check_shares(settings: TrainSettings, processes: int) -> None:
    """Raise TrainingError where a batch cannot be shared equally by so many processes."""
    if settings.batch_size % processes:
        raise TrainingError(
            f"batch_size {settings.batch_size} cannot be shared by {processes} processes; "
            f"use a multiple of {processes}"
        )


def check_device(settings: TrainSettings) -> None:
    """Raise TrainingError where the devices asked for on this machine, or the precision, are not there."""
    _precision(settings, _device(settings, settings.devices))


def _device(settings: TrainSettings, devices: int) -> str:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.device == "cpu" or (settings.device == "auto" and there == 0):
        return "cpu"
    if there < devices:
        raise TrainingError(
            f"{devices} CUDA devices asked for, {there} found; use training.device=cpu or "
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
