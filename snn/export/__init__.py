"""Networks in whole numbers: export for integer hardware, a runner that needs NumPy alone, and NIR."""
