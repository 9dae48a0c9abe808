"""What sees the frames: spiking networks that hand on the maps of several of their layers."""
