"""Work through many sources with one spec: which there are, what becomes of each, and the ledger of all.

It does not carry out a run itself: whoever calls it says how.
"""
