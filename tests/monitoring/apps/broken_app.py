"""The service with a view that raises an unexpected error."""

from app import create_app

app = create_app()


@app.get("/broken")
def broken():
    """Divide by zero."""
    return 1 / 0
