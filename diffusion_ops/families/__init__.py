"""Parts that several operators share: stencils, tensor fields, elements, reactions.

Knows kernels; never a particular PDE.
"""
