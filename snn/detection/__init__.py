"""Object detection: boxes, the grid of predictions, its loss, and which detections are kept."""
