"""What the kinds of work of a front share."""
