"""Readers: one file per form that data sets come in."""
