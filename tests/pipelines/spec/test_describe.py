"""What operators say of themselves: every parameter has a meaning and, where it is a quantity, a unit."""

from dataclasses import dataclass

import pytest

from diffusion_ops.evolution.operator import OPERATORS, Map, Operator
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
    for parameter in entry["parameters"]:
        assert parameter["about"], f"{name} says nothing of {parameter['name']}"
        if "float" in parameter["type"]:
            assert parameter["unit"], f"{name} has no unit for {parameter['name']}"


@pytest.mark.parametrize("name", OPERATORS.names())
def test_aliases_mean_parameters(name):
    entry = describe_operator(OPERATORS[name])
    assert set(entry["aliases"].values()) <= {parameter["name"] for parameter in entry["parameters"]}


@dataclass(frozen=True)
class Reaching(Operator):
    """An operator that reads farther the wider it is."""

    width: float

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


@dataclass(frozen=True)
class Picky(Map):
    """A map that needs a word."""

    word: str

    def __post_init__(self):
        if not isinstance(self.word, str):
            raise ValueError("word is not possible")

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
