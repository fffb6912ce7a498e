"""Lines and blocks of CSV."""

import csv
import io
from functools import partial

import numpy as np

from serving.batch.csv_lines import find_first_line_end, find_last_line_end, iter_blocks


def read_blocks(file, size):
    return iter_blocks(iter(partial(file.read, size), b""), size)


def test_blocks_end_outside_quotes():
    """Blocks of CSV end at a line end outside quotation marks."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [
            ["".join(rng.choice(list('ab,"\n'), size=rng.integers(0, 6))) for _ in range(2)]
            for _ in range(20)
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        body = text.getvalue().encode()
        end = find_first_line_end(body)
        assert list(csv.reader(io.StringIO(body[:end].decode(), newline=""))) == rows[:1]
        file = io.BytesIO(body[end:])
        blocks = list(read_blocks(file, int(rng.integers(1, 50))))
        assert b"".join(blocks).rstrip() == body[end:].rstrip()
        output = [
            row
            for block in blocks
            for row in csv.reader(io.StringIO(block[1:].decode(), newline=""))
        ]
        assert output == [row for row in rows[1:] if row != []]
    assert find_last_line_end(b'\na,"b\n') == 0 and find_last_line_end(b"\na\nb") == 2
