"""The model: its card, its storage and its scoring."""
