"""Weights in few bits: rules, settings, and how a built network gets them."""
