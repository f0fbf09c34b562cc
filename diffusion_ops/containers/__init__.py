"""Evolve images in the containers that users have: NumPy, Dask, xarray.

Knows how each is chunked and labelled; never what a PDE does to a cell.
"""
