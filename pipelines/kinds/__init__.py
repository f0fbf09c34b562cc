"""Kinds of work, found by the registry KINDS.

The interfaces are `Work` in `pipelines/tasks/work.py` and, for kinds that carry out operators, `ChainWork` in
`pipelines/plan/stages.py`.
"""
