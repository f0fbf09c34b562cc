"""Hold tiles of an image in memory, and add up what is measured on them.

Knows arrays; never a PDE, a file or a container.
"""

from diffusion_ops.compiled_cache import use_for_kernels

# Before anything here is compiled.
use_for_kernels()
