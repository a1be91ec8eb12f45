"""Receipts: every end of an operation is signed over the bytes that came, and can be checked by anybody, for ever."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask

from fieldsvc.app import create_app
from fieldsvc.base.clock import parse_time, utc_now
from fieldsvc.base.db import at_end, db, transaction
from fieldsvc.base.signing import BadReceipt, verify
from fieldsvc.cli import main
from fieldsvc.config import Settings
from fieldsvc.sync import receipts
from tests import factories
from tests.field import Field, Phone, done, exchange, repaired


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


def keys(app: Flask) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = done(app.test_client().get("/sync/v1/keys"))["keys"]
    return found


def settle(phone: Phone) -> None:
    phone.field.settle()
    phone.pull()


def claims(phone: Phone, op_id: str) -> dict[str, Any]:
    """What the receipt in the phone's copy says, checked with the public keys."""
    return verify(phone.told[op_id]["receipt"], keys(phone.field.app))


def sent(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_a_receipt_names_the_very_bytes_that_came_and_what_became_of_them(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    op = phone.op("job.arrive", job, {"odd": 1.50e1, "z": 1, "a": "é"})
    raw = json.dumps(op, indent=3).encode()
    assert done(phone.post_raw(b"[ \n" + raw + b" ]"))["results"][0]["status"] == "accepted"
    settle(phone)
    doc = phone.told[op["op_id"]]
    assert claims(phone, op["op_id"]) == {
        "op_id": op["op_id"],
        "body_sha256": sent(raw),
        "install_id": phone.install_id,
        "device_id": phone.id,
        "seq": 1,
        "kind": "job.arrive",
        "entity": "job",
        "entity_id": job,
        "outcome": "applied",
        "reason": None,
        "resolution": None,
        "policy_version": doc["policy_version"],
        "rev": 1,
        "entity_rev": doc["job_rev"],
        "decided_at": doc["decided_at"],
    }


def test_every_kind_of_end_has_its_receipt(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job, over = field.job("meter_change", phone.crew_id, place), field.job("repair", phone.crew_id)
    ops = [
        phone.op("job.arrive", job, {}),
        phone.op("job.arrive", "nowhere", {}),
        phone.op("meter.exchange", job, exchange("not on record", "NEW-1")),
        phone.op("job.complete", over, repaired()),
        phone.op("job.arrive", over, {}),
        phone.op("note.add", job, {"text": "late"}) | {"schema_version": 99},
    ]
    phone.push(*ops)
    settle(phone)
    outcomes = ["applied", "rejected", "parked", "applied", "superseded", "rejected"]
    assert [claims(phone, op["op_id"])["outcome"] for op in ops] == outcomes
    assert [claims(phone, op["op_id"])["body_sha256"] for op in ops] == [sent(json.dumps(op).encode()) for op in ops]
    assert [claims(phone, op["op_id"])["reason"] for op in ops] == [phone.reason(op) for op in ops]
    (review,) = field.reviews(job=job)
    field.resolve(review["id"], "dismiss")
    phone.pull()
    resolved = claims(phone, ops[2]["op_id"])
    assert (resolved["outcome"], resolved["resolution"], resolved["rev"]) == ("resolved", "dismiss", 2)
    assert resolved["body_sha256"] == sent(json.dumps(ops[2]).encode())


def test_what_is_forced_has_its_receipt(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.op("job.accept", job)
    late = phone.op("job.complete", job, repaired())
    phone.push(late)
    field.settle(utc_now() + timedelta(hours=25))
    phone.pull()
    assert claims(phone, late["op_id"])["outcome"] == "forced"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"op_id": "op-1", "seq": 1}',
        b'{"op_id": "op-1", "seq": 1, "note": "\xff\xfe"}',
        b'{"op_id": "op-1", "seq": 1, "note": "\\u0000"}',
        b'{"op_id": "op-1", "seq": 1, "big": 123456789012345678901234567890}',
        b'{"op_id": "op-1", "seq": 1, "long": "' + b"x" * 70_000 + b'"}',
    ],
)
def test_what_cannot_be_read_is_vouched_for_by_its_bytes_all_the_same(field: Field, raw: bytes) -> None:
    phone = field.phone()
    assert done(phone.post_raw(b"[" + raw + b"]"))["results"][0]["status"] == "rejected"
    phone.pull()
    told = claims(phone, "op-1")
    assert (told["outcome"], told["reason"], told["seq"]) == ("rejected", "bad_payload", 1)
    assert told["body_sha256"] == sent(raw)


def test_a_duplicate_a_question_and_the_feed_have_the_same_receipt(field: Field) -> None:
    phone = field.phone()
    op = phone.op("job.arrive", field.job("repair", phone.crew_id), {})
    phone.push(op)
    settle(phone)
    again = done(phone.post([op]))["results"][0]
    asked = done(phone.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"][0]
    assert again["status"] == "duplicate"
    assert again["outcome"] == asked["outcome"] == phone.told[op["op_id"]]
    spaced = json.dumps(op, indent=1).encode()
    again = done(phone.post_raw(b"[" + spaced + b"]"))["results"][0]
    assert again["status"] == "duplicate" and claims(phone, op["op_id"])["body_sha256"] != sent(spaced), "of the first"


def test_the_keys_are_public_and_what_was_changed_does_not_pass(field: Field) -> None:
    phone = field.phone()
    assert keys(field.app) == []
    op = phone.op("job.arrive", field.job("repair", phone.crew_id), {})
    phone.push(op)
    settle(phone)
    (key,) = keys(field.app)
    assert {name: key[name] for name in ("kty", "crv", "alg", "use")} == {
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
    }  # fmt: skip
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": key["x"]}, separators=(",", ":"))
    thumbprint = urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()
    assert key["kid"] == thumbprint, "RFC 7638"
    assert abs(parse_time(key["first_used_at"]) - utc_now()) < timedelta(minutes=5)
    receipt = phone.told[op["op_id"]]["receipt"]
    head, said, signature = receipt.split(".")
    assert json.loads(b64decode(head + "==")) == {"alg": "EdDSA", "kid": key["kid"], "typ": "fieldsvc-receipt"}
    other = urlsafe_b64encode(json.dumps(claims(phone, op["op_id"]) | {"outcome": "rejected"}).encode())
    unsigned = urlsafe_b64encode(b'{"alg":"none","typ":"fieldsvc-receipt"}').rstrip(b"=").decode()
    for bad in (
        f"{head}.{other.rstrip(b'=').decode()}.{signature}",
        f"{head}.{said}.{signature[:-4]}AAAA",
        f"{unsigned}.{said}.",
        f"{head}.{said}",
        "",
        f"{head}.{said}.{signature}!",
    ):
        with pytest.raises(BadReceipt):
            verify(bad, keys(field.app))
    with pytest.raises(BadReceipt, match="not among"):
        verify(receipt, [])


@contextmanager
def with_another_secret(settings: Settings) -> Iterator[Flask]:
    """The service after somebody has changed its secret."""
    app = create_app(replace(settings, secret_key="another secret"))
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_no_copy_of_the_keys_is_used_unasked(field: Field) -> None:
    answer = field.app.test_client().get("/sync/v1/keys")
    assert answer.headers["Cache-Control"] == "no-cache", "the key of a new secret would be missing from it"


def test_a_receipt_outlives_the_secret_it_was_made_with(field: Field, settings: Settings) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    first, second = phone.op("job.arrive", job, {}), phone.op("note.add", job, {"text": "later"})
    phone.push(first)
    settle(phone)
    with with_another_secret(settings) as app:
        token = phone.client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
        phone.field, phone.client, phone.cp = Field(app), factories.with_token(app, token), None
        phone.push(second)
        settle(phone)
        assert len({key["kid"] for key in keys(app)}) == 2
        assert claims(phone, first["op_id"])["outcome"] == claims(phone, second["op_id"])["outcome"] == "applied"


def test_a_key_whose_first_receipt_was_rolled_back_is_stored_with_the_next(field: Field) -> None:
    phone = field.phone()
    with pytest.raises(RuntimeError, match="cut"), field.app.app_context(), transaction():
        receipts.sign({"op_id": "x"}, utc_now())
        at_end("cut", cut)
    assert keys(field.app) == []
    for number in range(2):
        bad = json.dumps({"op_id": f"op-{number}", "seq": number + 1}).encode()
        assert done(phone.post_raw(b"[" + bad + b"]"))["results"][0]["status"] == "rejected"
    phone.pull()
    assert len(keys(field.app)) == 1
    assert [claims(phone, f"op-{number}")["seq"] for number in range(2)] == [1, 2]


def cut() -> None:
    raise RuntimeError("cut")


def test_a_packed_push_is_vouched_for_unpacked(field: Field) -> None:
    phone = field.phone()
    op = phone.op("job.arrive", field.job("repair", phone.crew_id), {})
    assert done(phone.post([op], packed=True))["results"][0]["status"] == "accepted"
    settle(phone)
    assert claims(phone, op["op_id"])["body_sha256"] == sent(json.dumps(op).encode())


def test_an_auditor_checks_a_receipt_with_a_file_of_keys(field: Field, tmp_path: Path) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    op = phone.op("job.arrive", job, {})
    phone.push(op)
    settle(phone)
    told = phone.told[op["op_id"]]
    keys_at, outcome, body = tmp_path / "keys.json", tmp_path / "outcome.json", tmp_path / "op.json"
    keys_at.write_text(json.dumps({"keys": keys(field.app)}))
    outcome.write_text(json.dumps(told))
    body.write_text(json.dumps(op))

    def run(*arguments: str, **more: Any) -> Result:
        return CliRunner().invoke(main, ["receipts", "verify", *arguments, "--keys", str(keys_at)], **more)

    good = run(str(outcome), "--body", str(body))
    assert good.exit_code == 0 and json.loads(good.output)["outcome"] == "applied", good.output
    assert run("-", input=told["receipt"] + "\n").exit_code == 0, "a receipt alone"
    for content, why in (
        (told | {"outcome": "rejected"}, "outcome is 'rejected' in the outcome, 'applied' in the receipt"),
        (told | {"receipt": told["receipt"][:-8] + "AAAAAAAA"}, "it was changed"),
        ({"op_id": op["op_id"]}, "there is no receipt in it"),
        ([], "there is no receipt in it"),
        ("nothing", "there is no receipt in it"),
    ):
        outcome.write_text(json.dumps(content))
        bad = run(str(outcome))
        assert bad.exit_code == 1 and why in bad.output, bad.output
    outcome.write_text(json.dumps(told))
    body.write_text(json.dumps(op, indent=1))
    assert "is not what this receipt was given for" in run(str(outcome), "--body", str(body)).output
    keys_at.write_text('{"keys": []}')
    assert "not among those given" in run(str(outcome)).output
    for text in ("", "[]", "{}", '{"keys": 1}'):
        keys_at.write_text(text)
        assert "no keys at" in run(str(outcome)).output
