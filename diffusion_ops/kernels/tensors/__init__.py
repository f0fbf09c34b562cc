"""Compiled arithmetic of structure tensors and of fluxes along them."""
