"""Compiled kernels: only arithmetic on one block, nothing about tiles, files or graphs."""
