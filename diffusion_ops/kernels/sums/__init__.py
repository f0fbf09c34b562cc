"""Compiled sums over a block: energies and other whole-image numbers, tile by tile."""
