"""Hold tiles of an image in memory, and add up what is measured on them.

Knows arrays; never a PDE, a file or a container.
"""
