"""A blog: posts as a page and as JSON at /api; POST /posts with title, text and the editor's password adds one."""

import hmac
import html
import json
import os
import signal
import sys
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg2

PAGE = """<!doctype html><html><head><title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1>{posts}<footer>{about}</footer></body></html>"""


def secret(name):
    return Path("/run/secrets", name).read_text().strip()


def query(sql, *values):
    db = psycopg2.connect(host="db", user="blog", dbname="postgres", password=secret("db-password"), connect_timeout=2)
    try:
        with db, db.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS posts (id serial PRIMARY KEY, title text, body text)")
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        db.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            query("SELECT 1")
            self.answer(200, "text/plain", "ok\n")
            return
        posts = query("SELECT title, body FROM posts ORDER BY id DESC")
        if self.path == "/api":
            about = Path("/etc/blog/about.txt").read_text().strip()
            self.answer(200, "application/json", json.dumps({"posts": posts, "about": about}))
            return
        articles = "".join(f"<article><h2>{html.escape(t)}</h2><p>{html.escape(b)}</p></article>" for t, b in posts)
        self.answer(
            200,
            "text/html; charset=utf-8",
            PAGE.format(
                title=html.escape(os.environ["TITLE"]),
                style=Path("/etc/blog/style.css").read_text(),
                posts=articles,
                about=html.escape(Path("/etc/blog/about.txt").read_text()),
            ),
        )

    def do_POST(self):
        length = min(int(self.headers.get("Content-Length", 0)), 100_000)
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        title, text, password = (form.get(name, [""])[0] for name in ("title", "text", "password"))
        if not hmac.compare_digest(password.encode(), secret("editor").encode()):
            self.answer(403, "text/plain", "wrong password\n")
            return
        query("INSERT INTO posts (title, body) VALUES (%s, %s)", title, text)
        self.answer(201, "text/plain", "posted\n")

    def answer(self, status, kind, body):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def check():
    with urllib.request.urlopen("http://127.0.0.1:8080/health", timeout=2):
        pass


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check()
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        ThreadingHTTPServer(("", 8080), Handler).serve_forever()
