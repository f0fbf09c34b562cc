"""Decide everything in numbers before a pixel is read: graph, stages, tile, batch, memory, time.

Never reads pixels, never starts anything.
"""
