"""Solve steady states on the graph of the pixels: couplings, aggregates, smoothing, elimination."""
