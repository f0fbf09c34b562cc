"""Read and write Zarr arrays, resolve addresses, and publish finished results.

Only this folder knows what an address ("://") is; it does not know what an array means.
"""
