"""Topics of ROS bags and selections of data sets on the command line."""

import json

import pytest
from suites.bag_files import SENSOR_HW, event_array, type_store, write_bag
from suites.reader_suite import random_events
from typer.testing import CliRunner

from events.cli.program import app
from events.readers.registry import open_recording


@pytest.fixture
def bag(tmp_path):
    store = type_store(ros1=False)
    topics = {
        f"/{name}/events": [
            event_array(store, random_events(n, n, sensor_hw=SENSOR_HW, span_us=90_000), ros1=False)
        ]
        for name, n in (("left", 40), ("right", 50))
    }
    return write_bag(tmp_path, "mcap", topics)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_info_reads_the_chosen_topic(bag):
    result = run("info", bag, "--topic", "/right/events", "--json")
    info = json.loads(result.stdout)
    assert (result.exit_code, info["events"], info["format"]) == (0, 50, "mcap")
    assert info["header"]["topics"] == [
        "/left/events (dvs_msgs/EventArray)",
        "/right/events (dvs_msgs/EventArray)",
    ]


def test_several_topics_are_one_line(bag):
    result = run("info", bag)
    assert result.exit_code != 0
    assert "2 topics of events: /left/events, /right/events; choose one (--topic)" in result.output


def test_cat_copies_the_chosen_topic(bag, tmp_path):
    assert run("cat", bag, tmp_path / "left.npz", "--topic", "/left/events").exit_code == 0
    assert len(open_recording(tmp_path / "left.npz").read()) == 40
