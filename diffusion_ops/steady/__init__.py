"""Steady states: the linear solver on the graph of the pixels, the same bits for the whole image and for tiles."""
