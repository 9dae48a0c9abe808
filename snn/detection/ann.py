"""The ANN beside a spiking detector: the same layers, ReLU in place of the neurons."""

from torch import nn

from snn.detection.detector import Detector
from snn.neurons.modules import Neuron


def put_relu_for_neurons(detector: Detector) -> Detector:
    """Put ReLU where a detector has neurons, and return the detector, an ANN.

    It sees every frame of a window by itself; the head is given the sum or the mean over frames, as that of
    the spiking one. Nothing is handed from a window to the next. Weights, normalisations and what they begin
    with stay as they are; thresholds and decays are gone.
    """
    for layer in list(detector.modules()):
        for name, child in list(layer.named_children()):
            if isinstance(child, Neuron):
                setattr(layer, name, nn.ReLU())
    return detector
