"""Read and write metadata that several formats share. Never opens an image."""
