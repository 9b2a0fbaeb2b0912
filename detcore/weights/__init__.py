"""Importers of published checkpoints. None of them unpickles anything."""

from .darknet import Darknet, load_darknet

__all__ = ["Darknet", "load_darknet"]
