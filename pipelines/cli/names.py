"""Names that options take, with a word on each."""

# Written out here because the packages that define them take seconds to import; a test compares.
NEURONS = {
    "lif": "leaky integrate-and-fire",
    "plif": "learned leak",
    "lt": "learned threshold",
    "quantlif": "membrane of three levels",
    "mlif": "spikes of value 1, 2 or 4",
}
MODELS = {
    "vgg5": "small, ours",
    "vgg7": "LT-SNN",
    "vgg9": "LT-SNN",
    "vgg11": "LT-SNN",
    "vggsnn": "M-LIF, strides in place of pools",
    "vggsnn_pool": "TET; SpQuant-SNN's VGG-9",
    "mobilenet": "LT-SNN, 5 blocks, without their padding",
    "mobilenet_wide": "LT-SNN, 6 blocks, without their padding",
    "mobilenet_wide_postpool": "LT-SNN, 6 blocks, spikes are pooled, without their padding",
    "mobilenet_depthwise": "5 blocks, true depth-wise convolutions",
    "mobilenet_wide_depthwise": "6 blocks, true depth-wise convolutions",
    "mobilenet_published": "LT-SNN as released",
    "mobilenet_wide_published": "LT-SNN as released",
    "mobilenet_wide_postpool_published": "LT-SNN as released",
    "resnet18": "LT-SNN",
    "resnet19": "LT-SNN",
    "resnet19_spquant": "SpQuant-SNN, a wide stem of stride 2",
    "resnet34": "SpQuant-SNN, for ImageNet",
    "preact_resnet18": "neurons before the convolutions",
    "resnet20": "M-LIF, converted from an ANN",
    "vgg16": "M-LIF, converted from an ANN",
    "vgg16_imagenet": "M-LIF, converted from an ANN",
    "spikformer_4_256": "transformer, 4x4 pixels a token",
    "spikformer_4_384": "transformer, 4x4 pixels a token",
    "spikformer_16_256": "transformer for recordings, 16x16 pixels a token",
    "spike_driven_2_512": "spike-driven transformer, 4x4 pixels a token",
    "spike_driven_8_512": "spike-driven transformer, 16x16 pixels a token",
    "spike_driven_2_256_events": "spike-driven transformer for recordings",
    "spike_driven_2_256_events_published": "as released, neighbours across features",
}
MEMBRANES = {
    "float": "or none: as it is",
    "ternary": "-1, 0, 1, as IM-SNN and SpQuant-SNN",
    "five": "-3 to 1, the default of SpQuant-SNN's release",
    "chip": "24 levels, steps of 1/8",
    "chip_published": "the same with the released gradient",
    "floor23": "23 levels, rounded down, as LT-SNN",
    "four": "-2 to 1",
}
HEADS = {
    "ssd": "from anchors fitted to the data",
    "anchor_free": "one box a cell",
    "grid": "LT-SNN's grid of cells",
}
EXECUTORS = {
    "auto": "the fastest that can",
    "reference": "plain torch, the definition",
    "numba": "fused on the CPU",
    "cuda": "fused on a GPU, needs CuPy",
}


def explained(names: dict[str, str]) -> str:
    """Return names and words as paragraphs of a help text."""
    return "".join(f"\n\n{name}: {words}" for name, words in names.items())
