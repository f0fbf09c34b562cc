"""Whole images against DIPlib: the same Perona-Malik away from its borders, and what coherence enhancing takes away."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

import diffusion_ops as do

pytestmark = pytest.mark.thorough

diplib = pytest.importorskip("diplib", reason="DIPlib is part of the extra `bench`")


@pytest.mark.parametrize(("theirs", "ours"), [("Gauss", "exponential"), ("quadratic", "rational")])
def test_perona_malik_is_that_of_diplib(theirs, ours):
    image = data.camera()[100:356, 100:356].astype(np.float32)
    found = do.evolve(image, do.PeronaMalik(10.0, ours), steps=5, dt=0.2)
    wanted = diplib.PeronaMalikDiffusion(diplib.Image(image), 5, 10.0, 0.2, theirs)
    # Its sides are not without flux: they differ by up to six grey levels, as far as five steps reach.
    inside = np.s_[6:-6, 6:-6]
    np.testing.assert_allclose(found[inside], np.asarray(wanted)[inside], atol=1e-4)


def test_coherence_enhancing_takes_away_what_diplib_does():
    """Another discretisation and another scale of eigenvalues, so no equal numbers: the same noise, and more of it."""
    rows, columns = np.mgrid[:128, :128] - 64
    rings = 128 + 100 * np.sin(np.hypot(rows, columns) / 3)
    noisy = (rings + np.random.default_rng(0).normal(0, 30, rings.shape)).astype(np.float32)
    theirs = np.asarray(diplib.CoherenceEnhancingDiffusion(diplib.Image(noisy), 1.0, 3.0, 20))
    ours = do.evolve(noisy, do.CoherenceEnhancing(contrast=1.0, sigma=1.0, rho=3.0), time=2)
    assert np.corrcoef((ours - noisy).ravel(), (theirs - noisy).ravel())[0, 1] > 0.96
    assert np.square(ours - rings).mean() < np.square(theirs - rings).mean()
