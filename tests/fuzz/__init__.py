"""Seeded fuzzers of user input: data sets of every reader, checkpoints, Darknet files, ops.

``python -m tests.fuzz --minutes N --seed S`` runs them for a given time; the tests run a short
part.
"""
