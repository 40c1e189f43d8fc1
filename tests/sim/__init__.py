"""A small world of pure parts in which whole clusters live through random histories, and in which nothing is left to
luck: a seed is a story. What it drives is the real deciding and committing; etcd, managers' shells and agents are toys.
"""
