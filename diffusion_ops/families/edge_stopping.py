"""The parameters of an edge-stopping conductance: what they may be, their units, and their names elsewhere."""

from __future__ import annotations

from diffusion_ops.evolution.parameters import Choice, Number
from diffusion_ops.kernels.conductance import CONDUCTANCES

CONTRAST = Number(
    unit="image units per unit length", above=0, statistic=True, aliases=("kappa", "k", "K", "lambda_")
)
"""Gradient magnitude that parts edges from noise."""

CONDUCTANCE = Choice(
    CONDUCTANCES,
    aliases=("option", "function"),
    alias_values={
        "option": {1: "exponential", 2: "rational"},
        "function": {"exponential": "exponential", "quadratic": "rational", "tukey": "tukey"},
    },
)
"""The law of the conductance."""
