"""Say what an image is: shape, axes, place, spacing, nodata, windows of it, and how any format gives or takes one.

Never a single format.
"""
