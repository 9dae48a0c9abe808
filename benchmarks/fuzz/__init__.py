"""Damaged recordings for every reader."""
