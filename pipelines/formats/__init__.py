"""One file format per file; every module here is found and imported by the registries of sources and sinks."""
