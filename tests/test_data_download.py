"""Resumable downloads against a server on this machine."""

import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from victims.data import download
from victims.data.errors import SourceFailed

CONTENT = np.random.default_rng(0).bytes(300_000)


class Handler(BaseHTTPRequestHandler):
    ranges = True
    drop_after = None  # bytes of each response after which the connection closes
    asked: list = []  # the server fixture gives every test its own

    def do_GET(self):
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        if self.path != "/data.bin":
            self.send_error(404)
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.drop_after is None else start + self.drop_after
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    handler = type("OneTest", (Handler,), {"asked": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    download.forget_silent_hosts()
    handler.url = f"http://127.0.0.1:{httpd.server_port}/data.bin"
    yield handler
    httpd.shutdown()
    httpd.server_close()
    download.forget_silent_hosts()


def test_goes_on_where_an_earlier_run_stopped(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:123_456])
    download.fetch(server.url, tmp_path / "data.bin")
    assert server.asked == ["bytes=123456-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert not (tmp_path / "data.bin.part").exists()


def test_dropped_connections_are_resumed_within_one_run(server, tmp_path):
    server.drop_after = 100_000
    download.fetch(server.url, tmp_path / "data.bin")
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    download.fetch(server.url, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_server_that_always_drops_at_one_place_is_given_up_and_the_part_kept(server, tmp_path):
    server.ranges, server.drop_after = False, 1000
    with pytest.raises(SourceFailed, match=r"stopped answering at 1,000 bytes"):
        download.fetch(server.url, tmp_path / "data.bin")
    assert not (tmp_path / "data.bin").exists()
    assert (tmp_path / "data.bin.part").stat().st_size == 1000


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_is_kept_and_one_too_long_fetched_again(server, tmp_path, part):
    (tmp_path / "data.bin.part").write_bytes(part)
    download.fetch(server.url, tmp_path / "data.bin")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.asked) == (1 if part == CONTENT else 2)


def test_a_refusal_names_address_and_status_and_does_not_condemn_the_host(server, tmp_path):
    url = server.url.replace("data.bin", "nothing.bin")
    with pytest.raises(SourceFailed, match=re.escape(url) + " answered 404"):
        download.fetch(url, tmp_path / "nothing.bin")
    assert download.answers(url)


def test_a_host_that_refuses_is_asked_once_in_a_process(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
    for complaint in ("does not answer", "did not answer earlier"):
        with pytest.raises(SourceFailed, match=complaint):
            download.fetch(url, tmp_path / "a")
    assert not download.answers(url)


def test_a_host_that_accepts_and_says_nothing_does_not_stall_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_S", 30.0)
    monkeypatch.setattr(download, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        began = time.monotonic()
        with pytest.raises(SourceFailed, match="does not answer"):
            download.fetch(url, tmp_path / "a")
    assert time.monotonic() - began < 5
