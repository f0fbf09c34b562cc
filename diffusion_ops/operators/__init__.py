"""One PDE per file; every module here is found and imported by the registry."""
