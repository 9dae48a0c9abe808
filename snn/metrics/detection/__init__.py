"""How well boxes were found: protocols, scores, streaming, tracks."""
