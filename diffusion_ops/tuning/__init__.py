"""Choose parameters and times from the noisy image alone. Knows samples and scores; never files or runs."""
