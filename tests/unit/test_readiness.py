"""What prepare finds: models fetched and checked, packages compared with their pins, no way to the network."""

import hashlib
import socket

import pytest
from ionraman.readiness import NotReady, offline, package_problems, provide_model
from ionraman.settings import ModelEntry

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def provide(tmp_path, **fields):
    entry = ModelEntry.model_validate({"path": "models/m.model", "licence": "MIT"} | fields)
    return provide_model("force", "mine", entry, tmp_path, "models.yaml")


def test_a_missing_model_is_fetched_once_and_checked(tmp_path):
    source = tmp_path / "source.model"
    source.write_bytes(CONTENT)
    assert provide(tmp_path, url=source.as_uri(), sha256=SHA256) == SHA256
    source.unlink()
    assert provide(tmp_path, url=source.as_uri(), sha256=SHA256) == SHA256
    assert (tmp_path / "models/m.model").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (None, {}, "models/m.model is missing .*put the model there"),
        (
            None,
            {"url": "file:///nowhere"},
            "not fetched .* as long as models.yaml, force.mine.sha256 is null",
        ),
        (None, {"url": "file:///nowhere", "sha256": SHA256}, "could not be fetched"),
        (b"other", {"sha256": SHA256}, "replace the file"),
        (CONTENT, {}, f"runs code: state its SHA-256 .{SHA256}"),
    ],
)
def test_what_is_missing_and_where_it_goes(tmp_path, content, fields, words):
    if content is not None:
        (tmp_path / "models").mkdir()
        (tmp_path / "models/m.model").write_bytes(content)
    with pytest.raises(NotReady, match=words):
        provide(tmp_path, **fields)


def test_another_file_at_the_url_is_thrown_away(tmp_path):
    source = tmp_path / "source.model"
    source.write_bytes(b"evil")
    with pytest.raises(NotReady, match="thrown away"):
        provide(tmp_path, url=source.as_uri(), sha256=SHA256)
    assert not list((tmp_path / "models").iterdir())


def test_offline_lets_no_connection_out():
    server = socket.create_server(("127.0.0.1", 0))
    with server, offline(), pytest.raises(NotReady, match="without internet"):
        socket.create_connection(server.getsockname(), timeout=5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()


def test_packages_against_their_pins(tmp_path):
    file = tmp_path / "requirements.txt"
    pins = "pydantic==0.0.1\nnot-there==1.0 \\\n    --hash=x\n# note\nother==2 ; sys_platform == 'win32'\n"
    file.write_text(pins)
    wrong, missing = package_problems(file)
    assert wrong.startswith("pydantic is 2") and "0.0.1 was pinned" in wrong
    assert missing == "not-there 1.0 is not installed"
