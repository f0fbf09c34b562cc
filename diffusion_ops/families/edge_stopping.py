"""The parameters of an edge-stopping conductance: what they may be, their units, and their names elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.evolution.parameters import check_choice, check_number
from diffusion_ops.kernels.conductance import CONDUCTANCES

UNITS: Mapping[str, str] = {"contrast": "image units per unit length", "sigma": "unit length"}

ALIASES: Mapping[str, str] = {
    "kappa": "contrast",
    "k": "contrast",
    "K": "contrast",
    "lambda_": "contrast",
    "option": "conductance",
    "function": "conductance",
}

ALIAS_VALUES: Mapping[str, Mapping[Any, Any]] = {
    "option": {1: "exponential", 2: "rational"},
    "function": {"exponential": "exponential", "quadratic": "rational", "tukey": "tukey"},
}


def check_edge_stopping(contrast: object, conductance: str, sigma: object) -> None:
    """Refuse a contrast that is not positive, an unknown conductance, a negative sigma.

    Raises
    ------
    ValueError
        With the parameter, what was given and what is allowed.
    """
    check_choice("conductance", conductance, CONDUCTANCES)
    if not isinstance(contrast, Statistic):
        check_number("contrast", contrast, positive=True, unit=UNITS["contrast"])
    check_number("sigma", sigma, positive=False, unit="the units of the spacing")
