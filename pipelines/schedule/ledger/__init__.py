"""Keep what became of each source: in a file of SQLite, or in an object store."""
