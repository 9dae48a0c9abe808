"""Where the recordings of a data set are, what their labels and splits are, and where to get them."""
