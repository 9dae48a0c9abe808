"""Filters: recordings cropped, thinned and cleaned of noise, with a count of what each step removed."""
