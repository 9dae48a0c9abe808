"""Networks: batches to logits."""
