"""Neurons: currents to spikes. One recurrence with options, defined in `reference.py`."""
