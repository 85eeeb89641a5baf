"""Logging in to ZooKeeper by SASL DIGEST-MD5 (RFC 2831), as Java's client does with a DigestLoginModule.

kazoo can do this only with another library; the exchange is two small frames, sent when the session stands
and before its first request. DIGEST-MD5 is weak and old; it is what ZooKeeper offers besides Kerberos.

Runs in: controller, on kazoo's thread. No state.
"""
from __future__ import annotations

import hashlib
import re
import secrets
import ssl
import struct
import time

from broker.config.zookeeper_login import DigestCredentials
from controller.metadata_store.zookeeper_socket import StoreSocket, wait_ready

_REQUEST = struct.Struct(">iii")  # request id, type, length of the token
_REPLY = struct.Struct(">iqi")  # request id, transaction id, error
_LENGTH = struct.Struct(">i")
_SASL_TYPE = 102
_FRAME_BYTES_MAX = 65536
_DIGEST_URI = "zookeeper/zk-sasl-md5"  # fixed, whatever the server's name
_FIELD = re.compile(r'([a-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))', re.IGNORECASE)


class SaslFailedError(Exception):
    """The server refused the login; the text says how."""


def log_in(connection: StoreSocket, credentials: DigestCredentials, timeout_seconds: float) -> None:
    """SaslFailedError when the server refuses; OSError when the connection ends or the time is up."""
    deadline = time.monotonic() + timeout_seconds
    challenge = _exchange(connection, 1, b"", deadline)
    client_nonce = secrets.token_hex(16)
    answer, expected = respond(challenge.decode("utf-8", "replace"), credentials, client_nonce)
    final = _exchange(connection, 2, answer, deadline).decode("utf-8", "replace")
    if parse_challenge(final).get("rspauth") != expected:
        raise SaslFailedError("the server does not know the password itself")


def parse_challenge(text: str) -> dict[str, str]:
    return {match[1].lower(): re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
            for match in _FIELD.finditer(text)}


def respond(challenge: str, credentials: DigestCredentials, client_nonce: str) -> tuple[bytes, str]:
    """The client's answer, and the proof that is expected from the server."""
    fields = parse_challenge(challenge)
    if fields.get("algorithm") != "md5-sess" or "nonce" not in fields:
        raise SaslFailedError("the server does not offer DIGEST-MD5")
    realm, nonce = fields.get("realm", ""), fields["nonce"]
    secret = _md5(_latin1_or_utf8(f"{credentials.username}:{realm}:{credentials.password.value}"))
    session = _md5(secret + f":{nonce}:{client_nonce}".encode()).hex()

    def proof(method: str) -> str:
        target = _md5(f"{method}:{_DIGEST_URI}".encode()).hex()
        return _md5(f"{session}:{nonce}:00000001:{client_nonce}:auth:{target}".encode()).hex()

    answer = (f'charset=utf-8,username={_quoted(credentials.username)},realm={_quoted(realm)},'
              f'nonce={_quoted(nonce)},nc=00000001,cnonce="{client_nonce}",digest-uri="{_DIGEST_URI}",'
              f'maxbuf=65536,response={proof("AUTHENTICATE")},qop=auth')
    return answer.encode(), proof("")


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _latin1_or_utf8(text: str) -> bytes:
    """As the standard wants it: ISO 8859-1 wherever it is enough."""
    try:
        return text.encode("iso-8859-1")
    except UnicodeEncodeError:
        return text.encode()


def _quoted(text: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", text)
    return f'"{escaped}"'


def _exchange(connection: StoreSocket, request_id: int, token: bytes, deadline: float) -> bytes:
    """One token there, one back."""
    frame = _REQUEST.pack(request_id, _SASL_TYPE, len(token)) + token
    _write(connection, _LENGTH.pack(len(frame)) + frame, deadline)
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline))
    if not _REPLY.size <= length <= _FRAME_BYTES_MAX:
        raise SaslFailedError(f"the server answers with {length} bytes")
    reply = _read(connection, length, deadline)
    _, _, error = _REPLY.unpack_from(reply)
    if error:
        raise SaslFailedError(f"the server answers with error {error}")
    (token_length,) = _LENGTH.unpack_from(reply, _REPLY.size) if length > _REPLY.size else (-1,)
    start = _REPLY.size + _LENGTH.size
    return b"" if token_length < 0 else reply[start:start + token_length]


def _read(connection: StoreSocket, size: int, deadline: float) -> bytes:
    received = b""
    while len(received) < size:
        readable, _, _ = wait_ready([connection], [], (), max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError("no answer to the login")
        try:
            chunk = connection.recv(size - len(received))
        except (BlockingIOError, ssl.SSLWantReadError):
            continue
        if not chunk:
            raise SaslFailedError("the server closes the connection, as it does on a wrong name or password")
        received += chunk
    return received


def _write(connection: StoreSocket, data: bytes, deadline: float) -> None:
    while data:
        _, writable, _ = wait_ready([], [connection], (), max(0.0, deadline - time.monotonic()))
        if not writable:
            raise TimeoutError("the login cannot be sent")
        try:
            data = data[connection.send(data):]
        except (BlockingIOError, ssl.SSLWantWriteError):
            continue
