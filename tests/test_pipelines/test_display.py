"""What people see while a run goes on."""

import io

import pytest
from rich.console import Console

from pipelines import display as display_module
from pipelines.display import Bars, PlainLines, Silent
from pipelines.observe import RunObserver
from pipelines.run_folder import RunFolder
from snn.training.settings import TrainSettings


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(display_module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_ten_seconds(clock, capsys):
    lines = PlainLines()
    for done in range(1, 42):
        lines.progress("converting", done, 100)
        clock[0] += 1.0
    printed = capsys.readouterr().err.splitlines()
    # 11 done after 10 s: 89 more take 81 s; and so on.
    assert printed == [
        "converting: 11/100, 81 s left",
        "converting: 21/100, 75 s left",
        "converting: 31/100, 67 s left",
        "converting: 41/100, 58 s left",
    ]


def test_a_new_activity_starts_its_own_clock(clock, capsys):
    lines = PlainLines()
    lines.progress("one", 1, 2)
    clock[0] += 60
    lines.progress("two", 1, 2)
    assert capsys.readouterr().err == ""


def test_long_times_are_said_as_people_do():
    assert [display_module._duration(s) for s in (5.2, 89, 100, 7200)] == ["5 s", "89 s", "2 min", "2.0 h"]


def test_bars_print_text_as_it_is():
    out = io.StringIO()
    with Bars(Console(file=out, width=60)) as bars:
        bars.say("a [bold]path[/bold] " + "x" * 80)
        bars.progress("epoch   1/2", 3, 10, "loss 1.0")
        bars.progress("epoch   2/2", 1, 10)
    assert out.getvalue().startswith("a [bold]path[/bold] " + "x" * 80 + "\n")
    assert [task.description for task in bars._progress.tasks] == ["epoch   2/2"]


@pytest.mark.parametrize("compiles", [True, False])
def test_a_first_batch_that_takes_long_is_explained_where_kernels_compile(monkeypatch, tmp_path, compiles):
    monkeypatch.setattr("pipelines.observe.COMPILING_AFTER_S", 0.0)
    said = Said()
    with RunObserver(RunFolder(tmp_path), TrainSettings(), said, compiles=compiles) as observer:
        if compiles:
            observer._waiting.join()
    assert [line.split()[0] for line in said.lines] == (["compiling"] if compiles else [])
