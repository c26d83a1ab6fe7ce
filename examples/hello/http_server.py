# http_server.py -- two processes, one port, nothing special in the code
import os, mob
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

back = mob.require("back")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"Hello World\n")
        print(f"Server {os.getpid()} served an http request.")
        back.foo()                                         # any one of the 4 back processes; does not wait

ThreadingHTTPServer(("127.0.0.1", 1337), Handler).serve_forever()
