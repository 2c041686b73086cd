"""Sealing a model file to one device, so that only its TA can open it (``ta/include/lb_sealed.h``)."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from device.board import BoardError

MAGIC = b"LBS1"
FORMAT = 1
KEY_BYTES = 64
TAG_BYTES = 16
MIN_CHUNK_BYTES, CHUNK_BYTES, MAX_CHUNK_BYTES = 1024, 65536, 262144
INFO = b"leakboard sealed model 1"

HEADER = struct.Struct("<4sI16sIIII16s32s64s32s8x")
"""magic, format, model_id, version, model_bytes, chunk_bytes, n_chunks, sealing_id, device_id, ephemeral_key, salt"""
CHUNK = struct.Struct("<4sIII16s16s")
"""magic, index, n_chunks, version, model_id, sealing_id"""
CHUNK_MAGIC = b"LBSC"

MODEL_MAGIC = b"LBM1"
MODEL_HEADER_BYTES = 128
MODEL_ID = slice(72, 88)
"""``model_id`` in ``struct lb_model_header`` of ``ta/include/lb_model.h``."""


class SealingError(BoardError):
    """A key that is none, or a file that is no model; says what is expected."""


def is_sealed(data: bytes | memoryview) -> bool:
    """Whether a file's contents are those of a sealed model."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def seal(model: bytes, device_key: bytes, *, version: int = 0, chunk_bytes: int = CHUNK_BYTES) -> bytes:
    """Encrypt a TEE's model file to a device.

    Args:
        model: the file as ``pack_sealed`` makes it.
        device_key: the device's public key, X || Y, 64 bytes.
        version: the owner's count of this model's releases; a device that has opened a higher one refuses it. 0: not
            counted.
        chunk_bytes: of plaintext in a chunk, a multiple of 64 within the format's bounds. The TA holds one chunk beside
            the model while it loads.

    Raises:
        SealingError: the key is no point of the curve, the file is no model, or a number is out of its range.
    """
    if model[:4] != MODEL_MAGIC or not MODEL_HEADER_BYTES <= len(model) < 2**32:
        raise SealingError(f"what should be sealed ({len(model)} bytes) is no model file: it does not begin with LBM1")
    if not 0 <= version < 2**32:
        raise SealingError(f"version {version}: a sealed model's version is between 0 and {2**32 - 1}")
    if not MIN_CHUNK_BYTES <= chunk_bytes <= MAX_CHUNK_BYTES or chunk_bytes % 64:
        raise SealingError(f"chunks of {chunk_bytes} bytes: {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES}, a multiple of 64")
    device = _load_key(device_key)
    own = ec.generate_private_key(ec.SECP256R1())
    ephemeral = _raw_key(own.public_key())
    salt, sealing_id, model_id = os.urandom(32), os.urandom(16), model[MODEL_ID]
    n_chunks = -(-len(model) // chunk_bytes)
    device_id = hashlib.sha256(device_key).digest()
    header = HEADER.pack(
        MAGIC,
        FORMAT,
        model_id,
        version,
        len(model),
        chunk_bytes,
        n_chunks,
        sealing_id,
        device_id,
        ephemeral,
        salt,
    )
    info = INFO + model_id + device_key + ephemeral
    key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(own.exchange(ec.ECDH(), device))

    def chunks() -> Iterator[bytes]:
        cipher = AESGCM(key)
        for index in range(n_chunks):
            head = CHUNK.pack(CHUNK_MAGIC, index, n_chunks, version, model_id, sealing_id)
            nonce = bytes(8) + index.to_bytes(4, "little")
            yield head
            yield cipher.encrypt(nonce, model[index * chunk_bytes :][:chunk_bytes], header + head)

    return b"".join((header, *chunks()))


def key_to_pem(device_key: bytes) -> bytes:
    """A device's public key as PEM (SubjectPublicKeyInfo).

    Raises:
        SealingError: it is none.
    """
    return _load_key(device_key).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_from_pem(pem: bytes) -> bytes:
    """A device's public key, X || Y, from PEM.

    Raises:
        SealingError: there is no public key in it, or one of another kind.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SealingError("a device key is a P-256 public key in PEM ('BEGIN PUBLIC KEY'); this is none") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SealingError("a device key is a P-256 public key; this is one of another kind")
    return _raw_key(key)


def _raw_key(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]


def _load_key(device_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(device_key) != KEY_BYTES:
            raise ValueError(f"{len(device_key)} bytes")
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + device_key)
    except ValueError as error:
        raise SealingError(f"a device key is a point of P-256, X || Y in {KEY_BYTES} bytes; this is none") from error
