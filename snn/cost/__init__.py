"""What a network costs: parameters, memory, operations and energy, layer by layer, for one sample."""
