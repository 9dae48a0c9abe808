"""Memory of whole readings is used again, and never while somebody refers to it."""

import gc
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from events import memory
from events.errors import ConfigError
from events.memory import SMALLEST, VARIABLE, allocate, release
from events.readers.registry import open_recording
from events.recording import EVENT_DTYPE, EventBuffer
from events.writers.registry import write_recording

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is used again on Linux alone")

SIZE = SMALLEST + 1000


@pytest.fixture(autouse=True)
def no_idle_memory():
    gc.collect()
    release()
    yield
    release()


def idle_bytes() -> int:
    return sum(map(len, memory._idle))


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def filled(value: int, size: int = SIZE) -> np.ndarray:
    array = allocate(size)
    array.fill(value)
    return array


def test_memory_nobody_refers_to_is_used_again():
    first = filled(1)
    where = address(first)
    del first
    assert idle_bytes() == memory.HUGE_PAGE * 17  # 32 MiB and some bytes
    second = allocate(SIZE)
    assert address(second) == where
    assert idle_bytes() == 0


def test_memory_is_as_numpys_own():
    array = allocate(SIZE).view("<i8")
    assert array.shape == (SIZE // 8,)
    assert array.flags.writeable
    assert array.flags.aligned
    assert array.flags.c_contiguous


VIEWS = {
    "field": lambda events: events["t"],
    "slice of a slice": lambda events: events[10:][::7],
    "other type": lambda events: events.view(np.int64)[3:],
    "matrix": lambda events: events.view(np.uint8).reshape(-1, 16).T[4:6],
    "memoryview": lambda events: memoryview(events.view(np.uint8))[5:],
    "tensor": lambda events: torch.from_numpy(events["t"]),
    "tensor through DLPack": lambda events: torch.from_dlpack(events.view(np.int64)),
    "buffer": lambda events: np.frombuffer(events.view(np.uint8), np.uint16, offset=16),
    "subclass": lambda events: events.view(np.recarray),
    "iterator": lambda events: events["x"].flat,
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_keeps_its_memory(view, monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 1)
    seen = view(filled(1, 4096).view(EVENT_DTYPE))
    before = np.asarray(seen).copy()
    gc.collect()
    assert idle_bytes() == 0
    others = [filled(2, 4096), filled(3, 4096)]
    np.testing.assert_array_equal(np.asarray(seen), before)
    del seen, others
    gc.collect()
    assert idle_bytes() == 3 * memory.HUGE_PAGE


def test_a_copy_keeps_no_memory():
    copies = [pickle.loads(pickle.dumps(filled(1))), filled(1).copy(), np.ascontiguousarray(filled(1)[::2])]
    assert idle_bytes() > 0
    filled(2)
    assert all((copy == 1).all() for copy in copies)


def test_in_place_resize_is_refused_as_ever():
    with pytest.raises(ValueError, match="resize"):
        filled(1).resize(2 * SIZE)


def test_a_block_is_cut_and_grown():
    for size in (SIZE, 3 * SIZE, 2 * SIZE, SIZE):
        array = filled(size % 251, size)
        assert (array == size % 251).all()
        assert idle_bytes() == 0  # the only block there is
        del array
        assert size <= idle_bytes() < size + memory.HUGE_PAGE


def test_no_more_lies_idle_than_said(monkeypatch):
    monkeypatch.setenv(VARIABLE, "100")
    arrays = [filled(number) for number in range(4)]
    arrays.clear()
    assert SIZE < idle_bytes() <= 100 << 20
    release()
    assert idle_bytes() == 0
    filled(1, 101 << 20)
    assert idle_bytes() == 0


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1])
def test_small_memory_does_not_lie_idle(size):
    filled(1, size)
    assert idle_bytes() == 0


def test_none_lies_idle_where_nobody_wants_it(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    filled(1)
    assert idle_bytes() == 0


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv(VARIABLE, "-1")
    with pytest.raises(ConfigError, match=f"{VARIABLE}='-1' must be a number of megabytes"):
        allocate(SIZE)


def test_more_memory_than_there_is(monkeypatch):
    monkeypatch.setenv(VARIABLE, str(1 << 40))
    with pytest.raises(MemoryError):
        allocate(1 << 60)


def test_nobody_waits_while_somebody_keeps_the_list():
    first, second = filled(1), filled(2)
    del first
    with memory._lock:
        del second  # as where a finaliser runs within the very functions
        assert idle_bytes() == 17 * memory.HUGE_PAGE
        assert address(allocate(SIZE)) % 4096 == 0


def test_threads_get_memory_of_their_own(monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 1)
    faults = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        held = []
        for _ in range(60):
            value = int(rng.integers(256))
            held.append((value, filled(value, int(rng.integers(1 << 12, 1 << 22)))))
            held = held[int(rng.integers(len(held))) :]
            faults.extend(value for value, array in held if not (array == value).all())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


SCRIPT = """
import os, sys
import numpy as np
from events import memory
SIZE = memory.SMALLEST
kept, dropped = memory.allocate(SIZE), memory.allocate(SIZE)
kept.fill(1)
dropped.fill(2)
del dropped
if len(sys.argv) > 1:
    memory._lock.acquire()  # as a thread may hold it while another forks
child = os.fork()
mine = memory.allocate(SIZE)
mine.fill(3 if child else 4)
kept[:10] = 5 if child else 6
if child:
    assert os.waitpid(child, 0)[1] == 0
assert (mine == (3 if child else 4)).all() and (kept[10:] == 1).all() and kept[0] == (5 if child else 6)
cycle = [kept]
cycle.append(cycle)
del kept
"""


@pytest.mark.parametrize("locked", [[], ["locked"]])
def test_a_fork_shares_no_memory_and_the_end_is_quiet(locked):
    run = subprocess.run([sys.executable, "-c", SCRIPT, *locked], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_what_was_read_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 1)
    rng = np.random.default_rng(0)
    written = []
    for number in range(3):
        events = np.zeros(5000 + 100 * number, EVENT_DTYPE)
        events["t"] = np.arange(len(events)) * 10
        events["x"], events["y"] = rng.integers(0, 128, (2, len(events)))
        write_recording(tmp_path / f"{number}.dat", events, format="dat", sensor_hw=(128, 128))
        written.append(events)
    x = open_recording(tmp_path / "0.dat").read()["x"]
    assert idle_bytes() == 0
    for number in (1, 2, 1):
        events = open_recording(tmp_path / f"{number}.dat").read()
        np.testing.assert_array_equal(events, written[number])
    np.testing.assert_array_equal(x, written[0]["x"])
    assert idle_bytes() > 0  # of the reading before the last


def test_a_buffer_grows_into_what_it_had(monkeypatch):
    monkeypatch.setattr(memory, "SMALLEST", 1)
    buffer = EventBuffer()
    buffer.room(1000)["t"] = 7
    assert len(buffer.room(1 << 20)) == 1 << 20
    assert idle_bytes() == 0
    buffer.room(1 << 20)["t"] = np.arange(1 << 20)
    grown = buffer.grow(3 << 20, kept=1 << 20)
    np.testing.assert_array_equal(grown["t"][: 1 << 20], np.arange(1 << 20))
