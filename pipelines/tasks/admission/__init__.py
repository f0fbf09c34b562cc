"""Which workers may have tasks: they prove that they compute the driver's bits, and give signs of life.

The room knows the scheduler and its workers, and no task, stage or image.
"""
