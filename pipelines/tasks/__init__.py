"""Do one tile: read a window, compute, write whole chunks, in any process.

Knows stores and images; never the plan or the run.
"""
