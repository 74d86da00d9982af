"""`verifykit serve` from its start to its end."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import signal
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.e2e.server.served import command, served
from verifykit.audit import examine_log, read_log
from verifykit.gallery import SqliteGallery

Portraits = Mapping[str, Path]


def test_enrol_verify_stop_and_go_on(
    face_model: Path, portraits: Portraits, tmp_path: Path
) -> None:
    with served(tmp_path, "--no-signatures") as first:
        assert first.put("alice", portraits["person_a_1"]).status_code == 201
        assert first.verify("alice", portraits["person_a_2"]).json()["match"] is True
        assert first.verify("alice", portraits["person_b_1"]).json()["match"] is False
        assert first.stop() == 0
    with served(tmp_path, "--no-signatures") as second:
        assert second.verify("alice", portraits["person_a_2"]).json()["match"] is True
        assert second.stop(signal.SIGINT) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "service.log",
        "staff.db",
        "staff.db.audit.jsonl",
        "staff.db.audit.jsonl.head",
        "staff.db.server",
    ]
    log = tmp_path / "staff.db.audit.jsonl"
    assert examine_log(log).problems == []
    assert [e.decision for e in read_log(log)] == ["enrolled", "match", "no_match", "match"]
    found = command("verify", "alice", portraits["person_a_2"], "--gallery", tmp_path / "staff.db")
    assert (found.returncode, found.stderr) == (0, "")


def test_every_enrolment_that_was_answered_is_kept_when_the_service_is_stopped_in_the_middle(
    face_model: Path, portraits: Portraits, tmp_path: Path
) -> None:
    with served(tmp_path, "--no-signatures", "--workers", 2) as service:
        service.put("warm", portraits["person_a_1"])
        with ThreadPoolExecutor(8) as pool:

            def enrol(number: int) -> tuple[str, int]:
                if number == 12:
                    service.process.send_signal(signal.SIGTERM)
                name = f"subject-{number}"
                try:
                    return name, service.put(name, portraits["person_a_1"]).status_code
                except httpx.TransportError:  # it did not listen any more
                    return name, 0

            answers = list(pool.map(enrol, range(40)))
        assert service.process.wait(timeout=60) == 0
    enrolled = {name for name, status in answers if status == 201}
    assert {status for _, status in answers} <= {201, 503, 0}
    assert enrolled
    assert len(enrolled) < 40
    log = tmp_path / "staff.db.audit.jsonl"
    assert examine_log(log).problems == []
    audited = {e.subject_id for e in read_log(log)}
    assert enrolled <= audited
    with SqliteGallery.open_existing(tmp_path / "staff.db") as gallery:
        assert enrolled <= set(gallery.subject_ids())


def test_with_keys_each_is_held_to_its_scopes(
    face_model: Path, portraits: Portraits, tmp_path: Path
) -> None:
    picture, gallery = portraits["person_a_1"], ("--gallery", tmp_path / "staff.db")

    def key(*scopes: str) -> str:
        words = [word for scope in scopes for word in ("--scope", scope)]
        made = command("serve", "keys", "create", *gallery, "--name", "test", *words)
        assert made.returncode == 0, made.stderr
        return f"Bearer {made.stdout.strip()}"

    door, desk, boss = key("verify"), key("enrol", "read"), key("admin")
    with served(tmp_path, "--no-signatures", "--host", "0.0.0.0") as service:
        service.url = service.url.replace("0.0.0.0", "127.0.0.1")
        address = f"{service.url}/v1/subjects/alice"
        refused = service.put("alice", picture)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert service.put("alice", picture, Authorization=door).json()["code"] == "forbidden"
        assert service.put("alice", picture, Authorization=desk).status_code == 201
        assert service.verify("alice", picture, Authorization=desk).status_code == 403
        assert service.verify("alice", picture, Authorization=door).json()["match"] is True

        def delete(authorization: str) -> int:
            headers = {"Authorization": authorization}
            return httpx.delete(address, headers=headers, trust_env=False).status_code

        assert [delete(who) for who in (door, desk, boss)] == [403, 403, 200]
        for open_path in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert httpx.get(service.url + open_path, trust_env=False).status_code == 200
        assert httpx.get(f"{service.url}/metrics", trust_env=False).status_code == 401

        key_id = door.split("_")[1]
        assert command("serve", "keys", "revoke", *gallery, key_id).returncode == 0
        assert service.verify("alice", picture, Authorization=door).status_code == 401
        assert service.stop() == 0
        lines = [json.loads(line) for line in service.log.read_text(encoding="utf-8").splitlines()]
        requests = [line for line in lines if line["message"] == "request"]
        assert {line["key_id"] for line in requests} >= {key_id, None}
        assert "alice" not in service.log.read_text(encoding="utf-8")
    entries = [(e.verb, e.key_id) for e in read_log(tmp_path / "staff.db.audit.jsonl")]
    assert entries == [
        ("enroll", desk.split("_")[1]),
        ("verify", key_id),
        ("remove", boss.split("_")[1]),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "give --gallery"),
        (f"--gallery s.db --tls-cert {__file__}", "go together"),
        ("--gallery s.db --cors *", "an origin is like"),
        ("--gallery postgresql://db/x", "say where"),
    ],
)
def test_options_that_are_not_possible(
    in_process: Callable[[str], tuple[int, str, str]], options: str, said: str
) -> None:
    status, out, err = in_process(f"verifykit serve {options}")
    assert (status, out) == (2, "")
    assert err.startswith("verifykit: InputError: ")
    assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("{}/s.db", "--host", "0.0.0.0"), "there is no API key"),
        (("{}/s.db", "--host", "::"), "there is no API key"),
        (("{}/none/s.db",), "does not exist"),
        (("{}/s.db", "--model", "gait"), "no model is named 'gait'"),
    ],
)
def test_what_cannot_be_served_is_one_message(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    words = [option.format(tmp_path) for option in options]
    ended = command("serve", "--port", 0, "--gallery", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("verifykit: ")]
    assert said in line
    assert "Traceback" not in ended.stderr


def test_tls(face_model: Path, portraits: Portraits, tmp_path: Path) -> None:
    cert, key = _certificate(tmp_path)
    options = ("--no-signatures", "--tls-cert", cert, "--tls-key", key)
    with served(tmp_path, *options) as service:
        assert service.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusted, trust_env=False) as client:
            assert client.get(f"{service.url}/readyz").json()["status"] == "ready"
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http"), trust_env=False)
        assert service.stop() == 0


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path
