"""Evolve images as users hold them: NumPy, Dask, xarray.

Knows how each is cut and labelled; never what a PDE does to a cell.
"""
