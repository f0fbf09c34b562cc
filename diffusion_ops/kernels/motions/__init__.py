"""Compiled rows of curvature motions, shock filters and other equations of differences."""
