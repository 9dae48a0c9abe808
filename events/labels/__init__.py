"""Labels of recordings: boxes with times, classes and tracks, of every format in which they are published."""
