"""Training: what train.py and the examples share."""
