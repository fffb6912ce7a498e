"""Metrics, request logs and drift."""
