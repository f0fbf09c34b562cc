"""Read and write Zarr arrays, resolve addresses, and publish finished results.

Only this folder knows what an address ("://") is, and only `places` asks a disk or a store for anything; none of it
knows what an array means.
"""
