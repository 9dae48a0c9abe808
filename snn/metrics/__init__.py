"""What a network does: accuracy, confusion, activity of its neurons."""
