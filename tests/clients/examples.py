"""What every client sends, and the predictions that it must receive."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

ROWS = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8], [6.3, 3.3, 6.0, 2.5]]
CLASSES = [0, 2, 2]
LABELS = ["setosa", "virginica", "virginica"]
