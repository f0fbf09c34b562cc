"""One way to get workers per file; every module here is found and imported by the registry."""
