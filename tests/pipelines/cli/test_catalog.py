"""Lists of plug-ins: everything that is registered is in them, with a line about it."""

import pytest

from pipelines.cli.catalog import LISTS, find_plugins
from pipelines.image.sink import SINKS
from pipelines.image.source import SOURCES
from pipelines.tasks.workers import CLUSTERS


@pytest.mark.parametrize("kind", LISTS)
def test_every_plugin_says_what_it_is(kind):
    for entries in find_plugins(kind).values():
        assert entries
        assert all(entry["about"] for entry in entries)


def test_everything_registered_is_listed():
    groups = find_plugins("formats")
    assert [entry["name"] for entry in groups["sources"]] == list(SOURCES)
    assert [entry["name"] for entry in groups["sinks"]] == list(SINKS)
    assert [entry["name"] for entry in find_plugins("clusters")["clusters"]] == list(CLUSTERS)


def test_one_name_may_be_a_source_and_a_sink():
    groups = find_plugins("formats", "zarr")
    assert [len(entries) for entries in groups.values()] == [1, 1]


def test_an_unknown_name_is_refused_with_those_that_there_are():
    with pytest.raises(
        ValueError,
        match=r"There is no 'moon' among the clusters\. Allowed: address, gateway, kubernetes, local, ",
    ):
        find_plugins("clusters", "moon")
