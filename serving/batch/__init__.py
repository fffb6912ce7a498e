"""Scoring of files and streams."""
