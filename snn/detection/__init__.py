"""Object detection: from frames to boxes, their loss, and which of them are kept."""
