"""A web server that says who it is, fetches what it is asked to, and can keep up a load of its own.

GET /               {"host", "client", "hits"}
GET /fetch?url=U    {"status", "body"} or {"error"}: a new connection to U from in here
GET /resolve?name=N {"addresses"} or {"error"}
GET /load?url=U     go on fetching U, with a new connection each time
GET /stats          {"ok", "failed", "errors", "dns_retries", "hosts"} of that load
GET /crash          exit with code 3
"""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HITS = 0
STATS = {"ok": 0, "failed": 0, "errors": [], "dns_retries": 0, "hosts": {}}


def resolve(name, port=0, patience=60.0):
    """Look a name up, and again while the resolver does not answer at all: what any sensible client does."""
    end = time.monotonic() + patience
    while True:
        try:
            found = socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)
            return [entry[4][0] for entry in found]
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN or time.monotonic() > end:
                raise
            STATS["dns_retries"] += 1
            time.sleep(0.05)


def fetch(url, timeout=60):
    parts = urllib.parse.urlsplit(url)
    address = resolve(parts.hostname)[0]
    target = f"http://{address}:{parts.port or 80}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
    with urllib.request.urlopen(target, timeout=timeout) as answer:
        return answer.status, answer.read().decode()


def load(url):
    while True:
        try:
            _, body = fetch(url)
            STATS["ok"] += 1
            host = json.loads(body)["host"]
            STATS["hosts"][host] = STATS["hosts"].get(host, 0) + 1
        except Exception as error:
            STATS["failed"] += 1
            STATS["errors"] = [*STATS["errors"][-9:], f"{type(error).__name__}: {error}"]
        time.sleep(0.005)  # some other test wants the processor too


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global HITS
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        code = 200
        if parts.path == "/":
            HITS += 1
            body = {"host": socket.gethostname(), "client": self.client_address[0], "hits": HITS}
        elif parts.path == "/fetch":
            try:
                status, text = fetch(query["url"], float(query.get("timeout", 60)))
                body = {"status": status, "body": text}
            except Exception as error:
                body = {"error": f"{type(error).__name__}: {error}"}
        elif parts.path == "/resolve":
            try:
                body = {"addresses": sorted(resolve(query["name"]))}
            except OSError as error:
                body = {"error": str(error)}
        elif parts.path == "/load":
            threading.Thread(target=load, args=(query["url"],), daemon=True).start()
            body = {}
        elif parts.path == "/stats":
            body = STATS
        elif parts.path == "/crash":
            os._exit(3)
        else:
            code, body = 404, {"error": "no such page"}
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        print(self.address_string(), format % args, flush=True)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print("probe ready on", socket.gethostname(), flush=True)
    Server(("0.0.0.0", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Handler).serve_forever()
