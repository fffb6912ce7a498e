"""How much of a model is counted: what bounds the shared memory and the series in Prometheus.

A bin takes 8 bytes for each of 128 workers, and 13 times as much with the snapshots of the window:
13 KiB. It has a counter and a reference share in every pod, four recorded series in Prometheus for
drift, and two for each role of a canary. At these limits a pod has 3,000 series of its model and
15 MB of counters.
"""

# 142 numbers with 7 bins each, or 9 categories with 100 values. A drift test of more columns also
# needs more rows to see the same shift, because its level is divided by their number.
MAX_FEATURE_BINS = 1000
# With more classes most of them have too few of the window's rows to show a change.
MAX_CLASSES = 100
# 400 pairs of a predicted and an actual class: what a confusion matrix can show.
MAX_PAIR_CLASSES = 20
