"""Evidence in a store that speaks S3: the same conversation, the same outcome, and what happens when it is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import boto3
import pytest
from flask import Flask
from moto.server import ThreadedMotoServer

from fieldsvc.base.clock import new_id
from fieldsvc.config import Settings
from fieldsvc.sync import uploads
from tests.evidence import begin, checksum, complete, entry, offset, photo, send, told
from tests.field import Field, problem


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT_URL": s3}.items():
        monkeypatch.setenv(name, value)
    name = f"evidence-{new_id()}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def settings(settings: Settings, bucket: str) -> Settings:
    return replace(settings, evidence_url=f"s3://{bucket}/field")


def keys(bucket: str) -> list[str]:
    return [found["Key"] for found in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_an_upload_in_pieces_is_joined_verified_and_served(app: Flask, bucket: str, drain: Callable[[], None]) -> None:
    field = Field(app, drain)
    phone = field.phone()
    job, data = field.job("repair", phone.crew_id), photo(size=(3000, 2000)) + b"\0" * 2_000_000
    named = entry(data)
    phone.send(complete(phone, job, named))
    where = begin(phone, named)
    half = len(data) // 2
    assert problem(send(phone, where, 0, data, **checksum(b"?"))) == (460, "checksum-mismatch")
    assert not keys(bucket)
    assert send(phone, where, 0, data[:half]).status_code == 204
    assert len(keys(bucket)) == -(-half // uploads.PART)
    assert send(phone, where, half, data[half:], **checksum(data[half:])).status_code == 204
    field.drain()
    phone.pull()
    assert told(phone, named)["state"] == "verified"
    path = f"field/{uploads.file_path(named['sha256'])}"
    assert keys(bucket) == [path, f"{path}.thumbnail.jpg"], "nothing is left of the parts"
    (row,) = field.get(f"/v1/jobs/{job}/attachments")["items"]
    assert field.office.get(f"/v1/attachments/{row['id']}/content").data == data
    assert field.office.get(f"/v1/attachments/{row['id']}/thumbnail").data[:3] == b"\xff\xd8\xff"


def test_a_store_that_is_away_stops_no_operation_and_uploads_go_on_later(
    app: Flask, bucket: str, drain: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    field = Field(app, drain)
    phone = field.phone()
    job, data = field.job("repair", phone.crew_id), photo()
    named = entry(data)
    where = begin(phone, named)
    app.extensions["fieldsvc.store"] = type(app.extensions["fieldsvc.store"])("s3://no-such-bucket/field")
    answer = send(phone, where, 0, data)
    assert problem(answer) == (503, "unavailable") and answer.headers["Retry-After"]
    assert phone.send(complete(phone, job, named)) == ["applied"]
    assert offset(phone, where) == 0
    app.extensions["fieldsvc.store"] = type(app.extensions["fieldsvc.store"])(f"s3://{bucket}/field")
    assert send(phone, where, 0, data).status_code == 204
    field.drain()
    phone.pull()
    assert told(phone, named)["state"] == "verified"
