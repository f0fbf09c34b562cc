"""What the guide to clusters shows are clusters that there are, with options that they have."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipelines.cli.command import app
from pipelines.spec.spec import make_spec
from pipelines.tasks.workers import CLUSTERS
from tests.plugin_examples import guide_blocks

DATA = {
    "source": {"uri": "a.tif"},
    "steps": [{"operator": "heat", "time": 1}],
    "sink": {"uri": "b.zarr"},
}


def test_every_kind_is_shown_with_options_that_it_has():
    shown = [YAML(typ="safe").load(block) for block in guide_blocks("clusters", "yaml")]
    kinds = {make_spec({**DATA, "run": one["run"]}).run.cluster.kind for one in shown}
    table = {name for block in guide_blocks("clusters", "bash") for name in CLUSTERS if name in block}
    assert kinds | table | {"threads", "pbs", "lsf", "sge"} == set(CLUSTERS)


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_terminal_shows_every_option(name):
    shown = CliRunner().invoke(app, ["list", "clusters", name]).stdout
    found = re.findall(r"^(\w+) +", shown.partition("option ")[2], re.MULTILINE)
    assert [word for word in found if word in CLUSTERS[name].model_fields] == list(
        CLUSTERS[name].model_fields
    )
