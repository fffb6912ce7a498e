"""`make demo`: drift, an A/B test, a canary and a reload on one machine, to watch."""
