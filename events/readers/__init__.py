"""Readers: recording files of each wire format become events."""
