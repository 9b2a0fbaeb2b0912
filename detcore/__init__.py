"""detcore: fast detection ops for PyTorch, and the detectors assembled from them."""

__version__ = "0.1.0"
