"""Windows of a recording that arrives, one after the other, and what is found in them."""
