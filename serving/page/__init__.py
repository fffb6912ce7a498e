"""The page for a browser at `/`, and the page of `/docs`: templates, scripts and style sheets."""
