"""Keep arrays in Zarr and put results in their places.

The only room that knows addresses ("://"); never what an array means.
"""
