"""Fused neurons: all steps in one pass over memory, with what stands around them folded in."""
