"""Stores of event frames: Zarr v3, written shard by shard, read without zarr-python where speed counts."""
