"""HTTP: our own routes' schemas and helpers."""
