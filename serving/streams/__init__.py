"""Messages of a broker: read, scored, answered and acknowledged."""
