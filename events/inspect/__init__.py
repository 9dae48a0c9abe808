"""What is in a recording or a store: plain values for programs, lines of text for people."""
