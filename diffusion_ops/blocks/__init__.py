"""Hold tiles of an image in memory, and sum measurements of them.

Knows arrays; never a PDE, a file or a container.
"""

from diffusion_ops.compilation import prepare_compiler

# Before anything here is compiled.
prepare_compiler()
