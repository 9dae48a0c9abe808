"""Static pictures as data sets: MNIST, CIFAR-10 and -100, and class folders of picture files."""
