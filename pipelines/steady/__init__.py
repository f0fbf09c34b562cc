"""What the stages of a steady state read and write beside the image."""
