"""The inference protocols of other platforms."""
