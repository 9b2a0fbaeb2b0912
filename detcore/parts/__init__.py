"""Detector parts: each stands alone, takes values and no config, and knows no model."""
