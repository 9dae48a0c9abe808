"""Spiking neural networks: batches to spikes to logits."""
