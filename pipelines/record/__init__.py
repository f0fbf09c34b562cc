"""Keep what a run has done: its folder, its lease on the targets, its journal, and the state that follows from it.

Knows plans; starts no task, and publishes nothing.
"""
