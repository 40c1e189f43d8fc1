"""Benchmarks, each side by side with Docker Swarm or with the limit, interleaved in one run and printed as ratios."""
