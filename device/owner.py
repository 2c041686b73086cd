"""The owner of a model: a key pair to which TAs seal what they tuned, and opening that (``ta/include/lb_sealed.h``)."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from device.sealing import CHUNK, CHUNK_MAGIC, FORMAT, HEADER, MAGIC, TAG_BYTES, SealingError

TUNED_INFO = b"leakboard tuned model  1"


class OwnerKey:
    """A P-256 key pair. ``public``: X || Y, 64 bytes, as it goes into a model's training section."""

    def __init__(self, pair: ec.EllipticCurvePrivateKey) -> None:
        self._pair = pair
        self.public = _raw(pair.public_key())

    @classmethod
    def generate(cls) -> OwnerKey:
        """A new pair."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> OwnerKey:
        """A pair from an unencrypted PEM file.

        Raises:
            SealingError: there is no P-256 private key in it.
        """
        try:
            pair = serialization.load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SealingError("an owner's key is a P-256 private key in PEM, unencrypted; this is none") from error
        if not isinstance(pair, ec.EllipticCurvePrivateKey) or not isinstance(pair.curve, ec.SECP256R1):
            raise SealingError("an owner's key is a P-256 private key; this is one of another kind")
        return cls(pair)

    def to_pem(self) -> bytes:
        """The pair as PEM (PKCS 8), unencrypted: a secret."""
        return self._pair.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def unseal(self, sealed: bytes, device_key: bytes) -> bytes:
        """The model file that a device's TA has tuned and sealed to this key.

        Args:
            sealed: as the TA exported it.
            device_key: the public key, X || Y, of the device that is said to have made it.

        Raises:
            SealingError: it was sealed to another key, made by another device, or changed on its way; says which as far
                as that can be told.
        """
        header, cipher = self._open(sealed, device_key)
        _, _, model_id, version, model_bytes, chunk_bytes, n_chunks, sealing_id, *_ = HEADER.unpack(header)
        model, at = bytearray(), HEADER.size
        for index in range(n_chunks):
            head = CHUNK.pack(CHUNK_MAGIC, index, n_chunks, version, model_id, sealing_id)
            size = min(chunk_bytes, model_bytes - len(model)) + TAG_BYTES
            record = sealed[at : at + CHUNK.size + size]
            if record[: CHUNK.size] != head or len(record) != CHUNK.size + size:
                raise SealingError(f"chunk {index} of the tuned model is missing, cut off or another one's")
            try:
                nonce = bytes(8) + index.to_bytes(4, "little")
                model += cipher.decrypt(nonce, record[CHUNK.size :], header + head)
            except InvalidTag as error:
                raise SealingError(
                    f"chunk {index} of the tuned model does not authenticate: it was changed, or another device made it"
                ) from error
            at += len(record)
        if at != len(sealed):
            raise SealingError(f"{len(sealed) - at} bytes follow the tuned model's last chunk")
        return bytes(model)

    def _open(self, sealed: bytes, device_key: bytes) -> tuple[bytes, AESGCM]:
        """The header, whose numbers make sense, and the key of the chunks."""
        header = sealed[: HEADER.size]
        if len(header) < HEADER.size or header[:4] != MAGIC:
            raise SealingError("this is no tuned model: it does not begin with a sealed model's header")
        _, form, model_id, _, model_bytes, chunk_bytes, n_chunks, _, owner_id, ephemeral, salt = HEADER.unpack(header)
        if form != FORMAT or chunk_bytes < 1 or n_chunks != -(-model_bytes // chunk_bytes) or n_chunks < 1:
            raise SealingError(f"the tuned model's header makes no sense (format {form}, {n_chunks} chunks)")
        if owner_id != hashlib.sha256(self.public).digest():
            raise SealingError("the tuned model is sealed to another owner's key")
        secret = self._agree(ephemeral, "ephemeral") + self._agree(device_key, "device")
        info = TUNED_INFO + model_id + self.public + ephemeral + device_key
        return header, AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret))

    def _agree(self, key: bytes, whose: str) -> bytes:
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
        except ValueError as error:
            raise SealingError(f"the {whose} key is no point of P-256, X || Y in 64 bytes") from error
        return self._pair.exchange(ec.ECDH(), point)


def _raw(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)[1:]
