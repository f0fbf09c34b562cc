"""Do one tile: read a window, compute, write whole chunks, in any process.

Knows stores and images, but neither the plan nor the run.
"""
