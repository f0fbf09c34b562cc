"""One way to get workers per file, found by the registry CLUSTERS.

The interface is `Cluster` in `pipelines/tasks/workers.py`.
"""
