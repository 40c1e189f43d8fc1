"""A page to vote on; each vote goes into a list in Redis. One browser has one vote, known by a cookie."""

import html
import json
import os
import secrets
import signal
import socket
import sys
import urllib.parse
import urllib.request
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis

OPTIONS = os.environ.get("OPTIONS", "Cats,Dogs").split(",")
PAGE = """<!doctype html><html><head><title>{title}</title><meta name="viewport" content="width=device-width">
<style>body{{font-family:sans-serif;max-width:30em;margin:4em auto;text-align:center}}
button{{font-size:1.6em;margin:.4em;padding:.5em 1.5em}}footer{{color:#777;margin-top:3em}}</style></head>
<body><h1>{title}</h1><form method="post" action="/vote">{buttons}</form><p>{said}</p>
<footer>served by {host}</footer></body></html>"""


def queue():
    return redis.Redis("redis", socket_connect_timeout=2, socket_timeout=2)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "ok\n")
        else:
            self.page(200, "")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        form = urllib.parse.parse_qs(self.rfile.read(length).decode())
        choice = form.get("vote", [""])[0]
        if self.path != "/vote" or choice not in OPTIONS:
            self.page(400, f"Vote for one of {', '.join(OPTIONS)}.")
            return
        cookies = SimpleCookie(self.headers.get("Cookie", ""))
        voter = cookies["voter"].value if "voter" in cookies else secrets.token_hex(8)
        try:
            queue().rpush("votes", json.dumps({"voter": voter, "vote": choice}))
        except redis.RedisError as error:
            self.page(503, f"The vote could not be taken: {error}")
            return
        self.page(200, f"Your vote: {choice}", voter)

    def page(self, status, said, voter=None):
        buttons = "".join(f'<button name="vote" value="{html.escape(o)}">{html.escape(o)}</button>' for o in OPTIONS)
        title = html.escape(" or ".join(OPTIONS) + "?")
        body = PAGE.format(title=title, buttons=buttons, said=html.escape(said), host=socket.gethostname())
        self.answer(status, body, voter)

    def answer(self, status, body, voter=None):
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if voter:
            self.send_header("Set-Cookie", f"voter={voter}; Path=/; HttpOnly; SameSite=Lax")
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
    print("taking votes for", ", ".join(OPTIONS))
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
