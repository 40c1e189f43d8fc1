"""Carries votes from Redis to PostgreSQL; a vote is taken off the queue only when the database has it."""

import json
import os
import signal
import sys
import time

import psycopg2
import redis


def connect():
    db = psycopg2.connect(
        host="db", user="votes", dbname="postgres", password=os.environ["PGPASSWORD"], connect_timeout=2
    )
    with db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS votes (voter text PRIMARY KEY, vote text NOT NULL)")
    return db


def carry():
    db = connect()
    # "queue" is another name that redis has in this network.
    queue = redis.Redis("queue", socket_connect_timeout=2, socket_timeout=10)
    print("carrying votes")
    while True:
        raw = queue.brpoplpush("votes", "in-hand", timeout=5)
        if raw is None:
            continue
        entry = json.loads(raw)
        with db, db.cursor() as cursor:
            cursor.execute(
                "INSERT INTO votes VALUES (%s, %s) ON CONFLICT (voter) DO UPDATE SET vote = EXCLUDED.vote",
                (entry["voter"], entry["vote"]),
            )
        queue.lrem("in-hand", 1, raw)
        print("carried a vote for", entry["vote"])


def give_back():
    """Put back what an earlier worker had in hand when it died."""
    queue = redis.Redis("queue", socket_connect_timeout=2, socket_timeout=10)
    while queue.rpoplpush("in-hand", "votes"):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            give_back()
            carry()
        except (redis.RedisError, psycopg2.Error) as error:
            print("waiting:", str(error).strip(), file=sys.stderr)
            time.sleep(0.5)
