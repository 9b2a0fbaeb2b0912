"""Evaluation: what a model, or a file of detections, is worth."""
