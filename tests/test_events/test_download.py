"""Downloads, against a server on this machine that can break in the ways real ones do."""

import hashlib
import json
import stat
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from events.datasets import disk_space, download, fetch
from events.datasets.catalogue import CATALOGUE, KnownSet, RemoteFile
from events.datasets.disk_space import RESERVE_BYTES
from events.datasets.download import DownloadProgress
from events.datasets.fetch import FetchSettings
from events.datasets.unpack import unpack_zip
from events.errors import DownloadError

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
QUICK = FetchSettings(attempts=3, backoff_s=0.0, timeout_s=5.0, chunk_bytes=1000)


@dataclass
class Behaviour:
    """What the server holds, how it breaks, and what it was asked."""

    files: dict[str, bytes]
    ranges: bool = True
    etag: str | None = '"version 1"'
    cuts: list[int] = field(default_factory=list)  # each answer in turn ends after so many bytes
    statuses: list[int] = field(default_factory=list)  # each request in turn gets this status instead
    content_type: str = "application/zip"
    length: bool = True
    shift: int = 0  # partial answers begin so many bytes after the one asked for
    requests: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        behaviour = self.server.behaviour
        behaviour.requests.append(dict(self.headers))
        if behaviour.statuses:
            status = behaviour.statuses.pop(0)
            if status:
                self.send_error(status)
                return
        content = behaviour.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = self.wanted_start(behaviour)
        if start is not None and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        self.send_header("Content-Type", behaviour.content_type)
        body = content[start or 0 :]
        if behaviour.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: behaviour.cuts.pop(0)] if behaviour.cuts else body)

    def wanted_start(self, behaviour):
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not behaviour.ranges or asked is None or (condition and condition != behaviour.etag):
            return None
        return int(asked.removeprefix("bytes=").rstrip("-")) + behaviour.shift

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A server on 127.0.0.1; `.behaviour` says what it does, `.url` where it is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.behaviour = Behaviour({"a.bin": CONTENT})
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def md5(content):
    return hashlib.md5(content).hexdigest()


def make_known(*files):
    return KnownSet(
        title="Test set",
        task="classification",
        sensor="",
        classes=1,
        recordings="1",
        download_gb=None,
        layout="",
        page="https://example.org/test-set",
        licence="",
        licence_source="",
        citation="",
        files=files,
    )


@pytest.fixture
def known(monkeypatch, server):
    """Put a set of the given files into the catalogue under the name `test-set`."""

    def put(*files, **changes):
        monkeypatch.setitem(CATALOGUE, "test-set", replace(make_known(*files), **changes))

    put(RemoteFile("a.bin", f"{server.url}/a.bin", md5(CONTENT)))
    return put


def get(dst, **options):
    return download.download("test-set", dst, **({"settings": QUICK} | options))


def sent_ranges(server):
    return [request.get("Range") for request in server.behaviour.requests]


def test_fetches_whole_files_and_keeps_them(server, known, tmp_path):
    summary = get(tmp_path / "made" / "here")
    folder = tmp_path / "made" / "here"
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == ["a.bin"]
    assert [(f.state, f.checked, f.size_bytes) for f in summary.files] == [("fetched", "md5", 10_240)]
    assert get(folder).files[0].state == "kept"
    assert len(server.behaviour.requests) == 1
    json.dumps(summary.as_dict())


def test_goes_on_where_the_connection_broke(server, known, tmp_path):
    server.behaviour.cuts = [4000, 3500]
    assert get(tmp_path).files[0].state == "resumed"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sent_ranges(server) == [None, "bytes=4000-", "bytes=7500-"]
    assert server.behaviour.requests[1]["If-Range"] == '"version 1"'


def test_goes_on_in_the_next_run(server, known, tmp_path):
    server.behaviour.cuts = [4000, 0, 0, 0]
    with pytest.raises(
        DownloadError,
        match=r"a\.bin: the connection ended after 4000 of 10240 bytes in 3 tries; "
        r"a\.bin\.partial keeps 4000 bytes, run the same download again to continue$",
    ):
        get(tmp_path)
    assert not (tmp_path / "a.bin").exists()
    server.behaviour.cuts = []
    assert get(tmp_path).files[0].state == "resumed"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sent_ranges(server)[-1] == "bytes=4000-"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_starts_anew_where_the_server_knows_no_ranges(server, known, tmp_path):
    server.behaviour.ranges = False
    server.behaviour.cuts = [4000]
    assert get(tmp_path).files[0].state == "fetched"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sent_ranges(server) == [None, "bytes=4000-"]


def test_starts_anew_where_the_file_has_changed_meanwhile(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(b"old bytes")
    kept = {"url": f"{server.url}/a.bin", "validator": '"version 0"'}
    (tmp_path / "a.bin.partial.json").write_text(json.dumps(kept))
    assert get(tmp_path).files[0].state == "fetched"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.behaviour.requests[0]["If-Range"] == '"version 0"'
    assert len(server.behaviour.requests) == 1


def test_an_answer_may_begin_before_the_byte_asked_for(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT[:5000])
    server.behaviour.shift = -1000
    assert get(tmp_path).files[0].state == "resumed"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert len(server.behaviour.requests) == 1


def test_an_answer_that_leaves_a_gap_is_not_used(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT[:5000])
    server.behaviour.shift = 1000
    with pytest.raises(
        DownloadError, match=r"the server sent bytes from 6000 on, 5000 was asked for in 3 tries"
    ):
        get(tmp_path)
    assert (tmp_path / "a.bin.partial").read_bytes() == CONTENT[:5000]


def test_an_etag_of_another_address_is_not_sent(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT[:5000])
    kept = {"url": "http://other.example/a.bin", "validator": '"version 0"'}
    (tmp_path / "a.bin.partial.json").write_text(json.dumps(kept))
    assert get(tmp_path).files[0].state == "resumed"
    assert "If-Range" not in server.behaviour.requests[0]
    assert sent_ranges(server) == ["bytes=5000-"]


def test_partial_bytes_of_unknown_origin_are_tried_then_fetched_anew(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(b"not the beginning of the file")
    (tmp_path / "a.bin.partial.json").write_text("{ broken")
    assert get(tmp_path).files[0].state == "fetched"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sent_ranges(server) == ["bytes=29-", None]


def test_without_checksum_and_etag_nothing_is_continued(server, known, tmp_path):
    known(RemoteFile("a.bin", f"{server.url}/a.bin"))
    server.behaviour.etag = None
    server.behaviour.cuts = [4000]
    assert get(tmp_path).files[0].checked is None
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert sent_ranges(server) == [None, None]


def test_a_weak_etag_is_no_reason_to_continue(server, known, tmp_path):
    known(RemoteFile("a.bin", f"{server.url}/a.bin"))
    server.behaviour.etag = 'W/"version 1"'
    server.behaviour.cuts = [4000]
    get(tmp_path)
    assert sent_ranges(server) == [None, None]


def test_a_partial_file_that_is_whole_is_only_checked(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT)
    assert get(tmp_path).files[0].state == "resumed"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_partial_file_that_is_too_long_is_fetched_anew(server, known, tmp_path):
    (tmp_path / "a.bin.partial").write_bytes(CONTENT + b"more")
    assert get(tmp_path).files[0].state == "fetched"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(server, known, tmp_path):
    known(RemoteFile("a.bin", f"{server.url}/a.bin", md5(b"something else")))
    with pytest.raises(DownloadError) as caught:
        get(tmp_path)
    assert str(caught.value) == (
        f"{server.url}/a.bin: md5 of its 10240 bytes is {md5(CONTENT)}, expected {md5(b'something else')}; "
        "nothing was kept; run again, and if it stays wrong the published file has changed"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_web_page_instead_of_the_file_is_named(server, known, tmp_path):
    server.behaviour.files["a.bin"] = b"<html>please log in</html>"
    server.behaviour.content_type = "text/html"
    with pytest.raises(
        DownloadError, match=r"of its 26 bytes is .* \(the server sent a web page\); nothing was kept"
    ):
        get(tmp_path)


def test_sha256_and_size_are_checked_where_known(server, known, tmp_path):
    good = RemoteFile("a.bin", f"{server.url}/a.bin", "0" * 32, hashlib.sha256(CONTENT).hexdigest(), 10_240)
    known(good)
    assert get(tmp_path / "good").files[0].checked == "sha256"
    known(replace(good, sha256="0" * 64))
    with pytest.raises(
        DownloadError, match=r"sha256 of its 10240 bytes is [0-9a-f]{64}, expected 0{64}; nothing"
    ):
        get(tmp_path / "bad")
    known(replace(good, size_bytes=10_000))
    with pytest.raises(DownloadError, match=r"found 10240 bytes, expected 10000; nothing was kept"):
        get(tmp_path / "bad")


def test_a_finished_file_with_wrong_bytes_is_not_overwritten(server, known, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(
        DownloadError,
        match=r"a\.bin: md5 of its 4 bytes is .*; it is not the published file, move or delete it",
    ):
        get(tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert server.behaviour.requests == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_not_repeated(server, known, tmp_path, status):
    server.behaviour.statuses = [status]
    with pytest.raises(
        DownloadError, match=rf"a\.bin: HTTP {status} .*; the file may have moved, look at the data set's"
    ):
        get(tmp_path)
    assert len(server.behaviour.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_repeated(server, known, tmp_path, status):
    server.behaviour.statuses = [status, status]
    assert get(tmp_path).files[0].state == "fetched"
    assert len(server.behaviour.requests) == 3


def test_passing_failures_end_after_the_last_try(server, known, tmp_path):
    server.behaviour.statuses = [503] * 9
    with pytest.raises(
        DownloadError, match=r"HTTP 503 Service Unavailable in 3 tries; a\.bin\.partial keeps 0 bytes"
    ):
        get(tmp_path)
    assert len(server.behaviour.requests) == 3


def test_waits_double_up_to_a_limit(server, known, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    server.behaviour.statuses = [503] * 9
    with pytest.raises(DownloadError, match="in 6 tries"):
        get(tmp_path, settings=FetchSettings(attempts=6, backoff_s=2.0, longest_wait_s=10.0))
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_no_server(known, tmp_path):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/a\.bin: no answer \(.*refused.*\) in 3 tries"):
        get(tmp_path, base_url="http://127.0.0.1:9/")


def test_only_http_addresses(known, tmp_path):
    with pytest.raises(
        DownloadError, match=r"^file:///etc/a\.bin: not an http or https address; correct it$"
    ):
        get(tmp_path, base_url="file:///etc")


def test_no_room_for_the_published_sizes(known, server, tmp_path, monkeypatch):
    known(RemoteFile("a.bin", f"{server.url}/a.bin", md5(CONTENT), size_bytes=10_240))
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESERVE_BYTES + 10_239)
    with pytest.raises(
        DownloadError,
        match=r": Test set needs 0\.0 MB, 67\.1 MB are free of which 67\.1 MB are kept in reserve; make room",
    ):
        get(tmp_path)
    assert server.behaviour.requests == []
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESERVE_BYTES + 10_240)
    assert get(tmp_path).files[0].state == "fetched"


def test_no_room_for_the_rounded_size_of_the_whole_set(known, server, tmp_path, monkeypatch):
    known(RemoteFile("a.bin", f"{server.url}/a.bin", md5(CONTENT)), download_gb=7.8)
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 5_000_000_000)
    with pytest.raises(DownloadError, match=r"Test set needs 7,800\.0 MB, 5,000\.0 MB are free"):
        get(tmp_path)


def test_no_room_for_the_size_the_server_tells(known, server, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESERVE_BYTES + 10_239)
    with pytest.raises(DownloadError, match=r"/a\.bin needs 0\.0 MB, 67\.1 MB are free"):
        get(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_writing(known, server, tmp_path):
    (tmp_path / "a.bin.partial").symlink_to("/dev/full")
    with pytest.raises(
        DownloadError,
        match=r"a\.bin\.partial: cannot be written \(No space left on device\); make room or choose",
    ):
        get(tmp_path)


def test_a_folder_in_the_way(known, tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(
        DownloadError, match=r"a\.bin: is a folder, expected a file or nothing; move it and run again$"
    ):
        get(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"file: cannot be made \(File exists\); choose another folder$"):
        get(tmp_path / "file")


def test_a_server_that_tells_no_length(server, known, tmp_path):
    server.behaviour.length = False
    assert get(tmp_path).files[0].state == "fetched"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_some_files_from_a_mirror_in_the_order_of_the_catalogue(server, known, tmp_path):
    server.behaviour.files = {"mirror/a.bin": CONTENT, "mirror/c.bin": b"c"}
    known(
        RemoteFile("a.bin", "http://127.0.0.1:9/moved", md5(CONTENT)),
        RemoteFile("b.bin", "http://127.0.0.1:9/moved", md5(b"b")),
        RemoteFile("c.bin", "http://127.0.0.1:9/moved", md5(b"c")),
    )
    reports = []
    summary = get(
        tmp_path, base_url=f"{server.url}/mirror/", files=["c.bin", "a.bin"], progress=reports.append
    )
    assert [file.path for file in summary.files] == [str(tmp_path / "a.bin"), str(tmp_path / "c.bin")]
    assert [report.done_bytes for report in reports if report.file == "a.bin"] == [
        *range(1000, 10_001, 1000),
        10_240,
    ]
    assert isinstance(reports[-1], DownloadProgress)
    last = replace(reports[-1], seconds=0.0)
    assert last == DownloadProgress(
        "c.bin", files_done=1, files_total=2, done_bytes=1, total_bytes=1, seconds=0.0
    )


def test_names_that_are_not_known(known, tmp_path):
    with pytest.raises(
        DownloadError, match=r"^no known data set 'n-mnist'; known: .*; did you mean 'nmnist'\?$"
    ):
        download.download("n-mnist", tmp_path)
    with pytest.raises(DownloadError, match=r"^test-set: has no file b\.bin; its files: a\.bin$"):
        get(tmp_path, files=["b.bin"])
    with pytest.raises(
        DownloadError, match=r"^gen1: has no public file address; get it by hand from https://www\.proph"
    ):
        download.download("gen1", tmp_path)


# --- archives ------------------------------------------------------------------------------------


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_extract_unpacks_beside_the_archive(server, known, tmp_path):
    content = write_zip(
        tmp_path / "z", {"cat/cat_0.aedat": CONTENT, "cat/cat_1.aedat": b"1", "__MACOSX/cat/._x": b"x"}
    )
    server.behaviour.files = {"cat.zip": content}
    known(RemoteFile("cat.zip", f"{server.url}/cat.zip", md5(content)))
    folder = tmp_path / "data"
    assert get(folder, extract=True).files[0].unpacked == 2
    assert files_below(folder) == ["cat.zip", "cat/cat_0.aedat", "cat/cat_1.aedat"]
    assert (folder / "cat" / "cat_0.aedat").read_bytes() == CONTENT
    (folder / "cat" / "cat_1.aedat").unlink()
    assert get(folder, extract=True).files[0].unpacked == 1
    assert get(folder, extract=True).files[0].unpacked == 0
    assert get(folder).files[0].unpacked is None


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil"])
def test_archives_may_not_write_elsewhere(tmp_path, name):
    write_zip(tmp_path / "z.zip", {"good": b"g", name: b"x"})
    (tmp_path / "data").mkdir()
    with pytest.raises(
        DownloadError,
        match=r"z\.zip: member '.*evil' would be written outside the folder; do not trust this archive$",
    ):
        unpack_zip(tmp_path / "z.zip", tmp_path / "data")
    assert files_below(tmp_path) == ["z.zip"]


def test_archives_may_not_hold_links(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    write_zip(tmp_path / "z.zip", {link: "/etc/passwd"})
    with pytest.raises(DownloadError, match=r"member 'link' is a link; do not trust this archive$"):
        unpack_zip(tmp_path / "z.zip", tmp_path)


def test_a_damaged_archive_leaves_nothing(tmp_path):
    content = bytearray(write_zip(tmp_path / "z.zip", {"a": bytes(1000), "b": CONTENT}))
    content[content.index(b"a") + 4] ^= 0xFF
    (tmp_path / "z.zip").write_bytes(content)
    with pytest.raises(
        DownloadError, match=r"z\.zip: cannot be unpacked \(.*\); delete it and download it again$"
    ):
        unpack_zip(tmp_path / "z.zip", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["z.zip"]
    (tmp_path / "z.zip").write_bytes(b"no archive at all")
    with pytest.raises(
        DownloadError, match=r"z\.zip: cannot be unpacked \(File is not a zip file\); delete it"
    ):
        unpack_zip(tmp_path / "z.zip", tmp_path)


def test_no_room_to_unpack(tmp_path, monkeypatch):
    write_zip(tmp_path / "z.zip", {"a": bytes(1_000_000)})
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: RESERVE_BYTES)
    with pytest.raises(DownloadError, match=r"unpacking z\.zip needs 1\.0 MB, 67\.1 MB are free"):
        unpack_zip(tmp_path / "z.zip", tmp_path)
    assert files_below(tmp_path) == ["z.zip"]
