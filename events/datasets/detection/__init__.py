"""Recordings with boxes: which published sets there are, and which windows of them become samples."""
