"""Importers of published checkpoints. None of them runs what a file says."""

from .darknet import Darknet, load_darknet
from .files import WeightsError
from .torchvision import PUBLISHED, class_names, kind_of, load_torchvision, load_trunk

__all__ = [
    "PUBLISHED",
    "Darknet",
    "WeightsError",
    "class_names",
    "kind_of",
    "load_darknet",
    "load_torchvision",
    "load_trunk",
]
