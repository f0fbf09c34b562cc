"""One whole-image quantity per file; every module here is found and imported by the registry."""
