"""Compiled kernels: only arithmetic on one block, nothing about tiles, files or graphs."""

from diffusion_ops.compilation import prepare_compiler

# Before anything here is compiled.
prepare_compiler()
