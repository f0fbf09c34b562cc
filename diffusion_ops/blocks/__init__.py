"""Hold tiles of an image in memory, and add up what is measured on them.

Knows arrays; never a PDE, a file or a container.
"""

from diffusion_ops.compilation import prepare_compiler

# Before anything here is compiled.
prepare_compiler()
