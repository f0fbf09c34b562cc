"""What operators say of themselves: every parameter has a meaning and, where it is a quantity, a unit."""

from dataclasses import dataclass

import pytest

from diffusion_ops.evolution.operator import OPERATORS, Map, Operator, with_parameters
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.reach import Reach
from pipelines.spec.describe import describe_halo, describe_operator, documented, first_sentence


@dataclass
class Documented:
    """A short line.

    More.

    Parameters
    ----------
    a, b : float
        What both are:
        in two lines.
    c : int

    Notes
    -----
    d : not a parameter
    """


def test_the_parameters_section_is_read():
    assert documented(Documented, "Parameters") == {
        "a": "What both are: in two lines.",
        "b": "What both are: in two lines.",
        "c": "",
    }
    assert first_sentence(Documented) == "A short line"


@pytest.mark.parametrize("name", OPERATORS.names())
def test_every_parameter_is_documented(name):
    entry = describe_operator(OPERATORS[name])
    assert entry["equation"]
    assert entry["about"]
    assert entry["reference"]
    for one in entry["parameters"]:
        assert one["about"], f"{name} says nothing of {one['name']}"
        if "float" in one["type"]:
            assert one["unit"], f"{name} has no unit for {one['name']}"


@pytest.mark.parametrize("name", OPERATORS.names())
def test_aliases_mean_parameters(name):
    entry = describe_operator(OPERATORS[name])
    assert set(entry["aliases"].values()) <= {parameter["name"] for parameter in entry["parameters"]}


@with_parameters
class Reaching(Operator):
    """An operator that reads farther the wider it is."""

    width: float = parameter(Number(unit="cells"))

    def reach(self, spacing):
        """Return what a step and the set-up read.

        Returns
        -------
        setup
            twice the width, in cells
        """
        return Reach((1,) * len(spacing), setup=(2 * int(self.width),) * len(spacing))

    def stable_dt(self, spacing):
        """Return 1."""
        return 1.0

    def run(self, block, cycle, count):
        """Do nothing."""


@with_parameters
class Picky(Map):
    """A map that needs a word."""

    word: str = parameter(Choice(("near", "far")))

    def reach(self, spacing):
        """Return as much as the word has letters."""
        return Reach((len(self.word),) * len(spacing))

    def apply(self, block):
        """Do nothing."""


def test_halo_says_cells_and_why():
    assert describe_halo(Reaching) == {
        "step": {"cells": 1, "about": ""},
        "cycle": {"cells": 2, "about": "twice the width, in cells"},
    }


def test_halo_of_parameters_that_nobody_can_guess_is_in_words():
    assert describe_halo(Picky) == {"step": {"cells": None, "about": "as much as the word has letters"}}
