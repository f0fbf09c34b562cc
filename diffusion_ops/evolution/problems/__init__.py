"""What `solve` takes: problems whose answer at one pixel depends on the whole image, and a request of one.

The room knows arrays in memory; tiles, files and clusters are known elsewhere.
"""
