"""Describe an image (shape, axes, georeference, spacing, nodata, windows) and the interface of its formats.

Knows no single format.
"""
