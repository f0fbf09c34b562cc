"""Compiled kernels: only arithmetic on one block, nothing about tiles, files or graphs."""

from diffusion_ops.compiled_cache import use_for_kernels

# Before anything here is compiled.
use_for_kernels()
