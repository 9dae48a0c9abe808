"""Two processes train like one: losses, statistics, thresholds, gates, resume. And how they end."""

import multiprocessing
import os
import signal
import socket
import time
from functools import partial

import pytest
import torch
from suites.processes_stand_ins import CASES, STOPPED, VALIDATION, train_all, train_case

from snn.errors import TrainingError
from snn.processes import Share
from snn.training.devices import make_fabric, started_world
from snn.training.launch import start_processes
from snn.training.settings import TrainSettings

TWO = TrainSettings(batch_size=8, device="cpu", devices=2)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return train_all(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(two_folder):
    return start_processes(partial(train_all, two_folder), TWO)


def assert_near(found, expected, where):
    """Compare numbers, and lists and dictionaries of them, up to the order of sums in float64."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_near(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_near(a, b, f"{where}[{number}]")
    else:
        close = {"rtol": 1e-6, "atol": 1e-8}
        found, expected = (torch.tensor(x, dtype=torch.float64) for x in (found, expected))
        torch.testing.assert_close(found, expected, **close, msg=lambda text: f"{where}: {text}")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_curve_of_one(one, two, case):
    alone, together = one[0][case], two[0][case]
    assert len(alone["losses"]) == 9
    if case == "random channels":
        # In evaluation they are drawn by place in a batch, and batches are others there.
        alone, together = ({key: o[key] for key in ("losses", "state")} for o in (alone, together))
    assert_near(together, alone, case)
    if "gates" in case or "gating" in case:
        assert together["records"][-1]["kept_shares"]


def test_evaluation_counts_the_samples_of_every_process(two):
    record = two[0]["dropout of samples"]["records"][-1]
    correct = record["validation_accuracy"] * VALIDATION
    assert correct == pytest.approx(round(correct), abs=1e-12)
    assert all(0 < rate < 1 for rate in record["firing_rates"].values())


def test_a_checkpoint_of_two_processes_is_resumed_by_one(one, two, two_folder):
    _, stopped = two
    assert not stopped["completed"]
    assert len(stopped["losses"]) == 4
    torch.set_default_dtype(torch.float64)
    try:
        resumed = train_case(make_fabric(TWO), two_folder / "stopped", STOPPED, resume=True)
    finally:
        torch.set_default_dtype(torch.float32)
    whole = one[0][STOPPED]
    assert [record["epoch"] for record in resumed["records"]] == [2, 3]
    for found, expected in zip(resumed["records"], whole["records"][1:], strict=True):
        assert_near(found, expected, "record")
    assert_near(resumed["state"], whole["state"], "state")


def test_shares_of_an_uneven_batch():
    shares = [Share(rank, 2, samples, 5) for rank, samples in ((0, 3), (1, 2))]
    assert shares[0].weights == [0.6, 0.4]
    # The mean over processes of means times factors is the mean over samples.
    means = [share.loss_factor / 2 * mean for share, mean in zip(shares, (1.0, 6.0), strict=True)]
    assert sum(means) == pytest.approx(3.0)


def fail_in_second(tell):
    tell(started_world().rank)
    if started_world().rank == 1:
        raise TrainingError("the second cannot")
    time.sleep(60)


def die_in_second(tell):
    if started_world().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail_in_second, "^the second cannot$"),
        (die_in_second, r"^process 1 of the run on this machine ended by signal SIGKILL, and the others"),
    ],
)
def test_one_that_ends_badly_ends_all(function, message, monkeypatch):
    monkeypatch.setattr("snn.training.launch.TO_FAIL_TOO_S", 0.5)
    with pytest.raises(TrainingError, match=message):
        start_processes(function, TWO)
    assert multiprocessing.active_children() == []


def say_and_wait(tell):
    tell("ready")
    time.sleep(60)


def test_ctrl_c_ends_all():
    with pytest.raises(KeyboardInterrupt):
        start_processes(say_and_wait, TWO, listen=lambda _: signal.raise_signal(signal.SIGINT))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK 2 of WORLD_SIZE 2"),
        ({"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, "as many processes on every machine"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK: found 'one' in the environment, expected a whole number"),
    ],
)
def test_environments_that_make_no_sense(environment, message, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message):
        started_world()


def test_what_torchrun_says_is_believed(monkeypatch):
    assert started_world() is None
    for name, value in {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    world = started_world()
    assert (world.rank, world.processes, world.processes_here, world.nodes) == (5, 6, 2, 3)
    with pytest.raises(
        TrainingError, match="batch_size 8 cannot be shared by 6 processes; use a multiple of 6"
    ):
        make_fabric(TrainSettings(batch_size=8, device="cpu"), world)


def test_several_machines_must_be_told_apart(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        TrainingError, match=r"training\.nodes is 2: found MASTER_ADDR= MASTER_PORT= NODE_RANK=,"
    ):
        start_processes(say_and_wait, TrainSettings(batch_size=8, device="cpu", nodes=2))


def test_a_port_that_cannot_be_had_is_named(monkeypatch):
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("NODE_RANK", "0"), ("MASTER_PORT", "65536")):
        monkeypatch.setenv(name, value)
    settings = TrainSettings(batch_size=8, device="cpu", nodes=2)
    with pytest.raises(TrainingError, match=r"MASTER_PORT=65536 NODE_RANK=0, expected"):
        start_processes(say_and_wait, settings)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(TrainingError, match=rf"^MASTER_PORT={port}: other machines cannot be heard"):
            start_processes(say_and_wait, settings)
