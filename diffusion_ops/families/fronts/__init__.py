"""What fronts run through, and how they run through arrays in memory."""
