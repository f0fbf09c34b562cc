"""Define parameters that several operators share: scales, seeds, and the smallest slope with a direction."""

from __future__ import annotations

import dataclasses

from diffusion_ops.evolution.parameters import Choice, Count, Number

SIGMA = Number(unit="unit length", least=0)
"""Standard deviation of a Gaussian; 0 leaves it out."""

NOISE_SCALE = dataclasses.replace(SIGMA, aliases=("NoiseScale", "derivativeSigma"))
"""Standard deviation of the Gaussian before the gradient of a structure tensor."""

FEATURE_SCALE = dataclasses.replace(SIGMA, aliases=("FeatureScale", "regularizationSigma"))
"""Standard deviation of the Gaussian over the products of a structure tensor."""

EPSILON = Number(unit="image units per unit length", above=0, aliases=("eps",))
"""Gradient magnitude below which the direction of a level line means nothing."""

SEED = Count(least=0, most=(1 << 64) - 1)
"""Key of random numbers."""

FLAG = Choice((True, False))
"""Yes or no."""
