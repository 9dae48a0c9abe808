"""Event-camera recordings to frames to chunked stores. `events --help` lists the commands."""
