"""What app.py, train.py and gunicorn share."""
