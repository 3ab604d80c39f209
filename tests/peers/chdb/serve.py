"""ClickHouse's engine of today (chDB) behind as much of ClickHouse's HTTP interface as a query needs,
written from its documentation "HTTP Interface": the statement in the body, `param_NAME` in the query
string, and for a fault the status and the header that go with its code. The SQL, its parameters, the rows
and the faults are the engine's own. Takes a port."""

import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

session = Session()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = dict(parse_qsl(urlsplit(self.path).query))
        sql = self.rfile.read(int(self.headers["content-length"])).decode()
        params = {key[6:]: value for key, value in asked.items() if key.startswith("param_")}
        form = asked.get("default_format", "TabSeparated")
        try:
            self.answer(200, session.query(sql, form, params=params).bytes() or b"")
        except RuntimeError as error:  # ChdbError is one
            text = str(error).strip()
            code = re.search(r"Code: (\d+)", text)
            headers = {"X-ClickHouse-Exception-Code": code[1]} if code else {}
            self.answer({"60": 404, "81": 404}.get(code and code[1], 500), text.encode(), headers)

    def answer(self, status, body, headers={}):
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
