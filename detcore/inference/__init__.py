"""Inference: pictures and videos in; detections, files and drawings out."""
