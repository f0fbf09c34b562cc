"""Compiled arithmetic of linear elements on the squares and cubes of the grid."""
