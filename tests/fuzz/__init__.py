"""Seeded fuzzers of what users give: every reader's files, checkpoints, Darknet's files.

``python -m tests.fuzz --minutes N --seed S`` runs them for as long as wanted; the tests run a part.
"""
