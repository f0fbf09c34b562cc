"""What operators say of themselves: every parameter has a meaning and, where it is a quantity, a unit."""

from dataclasses import dataclass

import pytest

from diffusion_ops.operator import OPERATORS
from pipelines.describe import describe_operator, first_sentence, parameter_docs


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
    assert parameter_docs(Documented) == {
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
