"""What app.py, train.py and gunicorn share."""

__version__ = "1.0.0"
