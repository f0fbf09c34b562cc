"""Read and write Zarr arrays, resolve addresses, and publish finished results.

Only this folder knows what an address ("://") is, and other folders ask disks and stores only through `places`;
none of it knows what an array means.
"""
