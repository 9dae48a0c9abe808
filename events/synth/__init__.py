"""Made-up recordings: real pictures, moved before a simulated sensor."""
