"""A page with the count of votes, and the same as JSON at /api."""

import html
import json
import os
import signal
import socket
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2

PAGE = """<!doctype html><html><head><title>Result</title><meta http-equiv="refresh" content="2">
<style>body{{font-family:sans-serif;max-width:30em;margin:4em auto;text-align:center}}
td{{font-size:1.6em;padding:.2em 1em}}table{{margin:auto}}footer{{color:#777;margin-top:3em}}</style></head>
<body><h1>Result</h1><table>{rows}</table><p>{total} votes</p><footer>served by {host}</footer></body></html>"""


def count():
    db = psycopg2.connect(
        host="db", user="votes", dbname="postgres", password=os.environ["PGPASSWORD"], connect_timeout=2
    )
    try:
        with db.cursor() as cursor:
            cursor.execute("SELECT vote, count(*) FROM votes GROUP BY vote ORDER BY vote")
            return dict(cursor.fetchall())
    except psycopg2.errors.UndefinedTable:  # the worker makes it
        return {}
    finally:
        db.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "text/plain", "ok\n")
            return
        try:
            votes = count()
        except psycopg2.Error as error:
            self.answer(503, "text/plain", f"no database: {error}")
            return
        if self.path == "/api":
            self.answer(200, "application/json", json.dumps(votes))
            return
        rows = "".join(f"<tr><td>{html.escape(vote)}</td><td>{n}</td></tr>" for vote, n in votes.items())
        page = PAGE.format(rows=rows, total=sum(votes.values()), host=socket.gethostname())
        self.answer(200, "text/html; charset=utf-8", page)

    def answer(self, status, kind, body):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        if self.path != "/health":
            print(self.address_string(), format % args)


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        urllib.request.urlopen("http://127.0.0.1:8080/health", timeout=2)
        sys.exit(0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("showing results")
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
