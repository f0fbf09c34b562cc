"""How an evolution is carried out over Zarr: specs, plans, runs, formats, clusters, and the command `diffuse`."""
