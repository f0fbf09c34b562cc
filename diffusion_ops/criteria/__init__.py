"""One rule for choosing parameters per file; every module here is found and imported by the registry."""
