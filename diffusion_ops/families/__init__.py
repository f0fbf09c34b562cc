"""Share among operators what several of them need: stencils, tensor fields, elements, reactions.

Knows kernels; never a single PDE.
"""
