"""Sparsity: what decides, from its input, which outputs of a convolution are computed."""
