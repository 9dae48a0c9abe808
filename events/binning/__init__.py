"""Binning: events of one recording become frames."""
