"""One file format per file, found by the registries SOURCES and SINKS.

The interfaces are `Source` in `pipelines/image/source.py` and `Sink` in `pipelines/image/sink.py`. Metadata that
several formats share are in `metadata/`.
"""
