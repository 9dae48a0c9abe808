"""From a trained ANN to a spiking network: ranges of activations, folding, thresholds, biases."""
