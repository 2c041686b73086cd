"""Sealed models, from Python to the TA of the emulated board: what opens, and how everything else is refused."""

import contextlib
import ctypes
import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from c_build import MODEL_ID, PROBS, deploy, kernels, small_graph
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device import sealing, wire
from device.board import BoardError, DeploymentFiles, SealedRefused
from device.build import build_program
from device.connection import Connection
from device.emulated import EmulatedBoard
from device.sealing import CHUNK, HEADER, TAG_BYTES, SealingError, key_from_pem, key_to_pem, seal
from device.wire import FrameType, SealedError
from suite.cli import main
from suite.graph.format import pack_sealed
from suite.graph.partition import split
from suite.graph.reference import run_graph

HIDDEN = {"fc", "soft"}
GRAPH = small_graph(classes=12)  # a sealed part of about 6 KiB
CHUNK_BYTES = 1024
RECORD = CHUNK.size + CHUNK_BYTES + TAG_BYTES
OTHER_ID = bytes(range(1, 17))
IMAGES = np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)


def model(model_id: bytes = MODEL_ID) -> bytes:
    return pack_sealed(split(GRAPH, HIDDEN), PROBS, model_id)


def records(sealed: bytes) -> list[bytes]:
    """The header, then each chunk's record."""
    rest = sealed[HEADER.size :]
    return [sealed[: HEADER.size], *(rest[at : at + RECORD] for at in range(0, len(rest), RECORD))]


class Device:
    """A board that keeps its storage, and the deployment whose sealed part tests replace."""

    def __init__(self, folder: Path, *, sanitize: bool = False) -> None:
        self.storage = folder / "storage"
        self.storage.mkdir()
        self.board = EmulatedBoard(storage=self.storage, sanitize=sanitize)
        self.key = self.board.device_key()
        self.files = deploy(folder, GRAPH, HIDDEN)

    def seal(self, version: int = 0, model_id: bytes = MODEL_ID) -> bytes:
        return seal(model(model_id), self.key, version=version, chunk_bytes=CHUNK_BYTES)

    def open(self, sealed: bytes) -> np.ndarray:
        """The answers of a deployment with that sealed file."""
        file = self.files.public.parent / "sealed.lbs"
        file.write_bytes(sealed)
        with self.board.open(DeploymentFiles(self.files.public, file)) as session:
            return session.infer(IMAGES).outputs

    def refuses(self, sealed: bytes) -> str:
        with pytest.raises(SealedRefused) as refused:
            self.open(sealed)
        assert str(refused.value).startswith("the TA refuses the sealed model")
        return refused.value.reason


@pytest.fixture
def device(tmp_path) -> Device:
    return Device(tmp_path)


@pytest.fixture(params=[False, True], ids=["plain", "sanitized"])
def any_device(tmp_path, request) -> Device:
    return Device(tmp_path, sanitize=request.param)


def test_a_sealed_model_opens_on_its_device_and_answers_as_pytorch(any_device):
    expected = run_graph(GRAPH, {"image": IMAGES})["p"]
    np.testing.assert_allclose(any_device.open(any_device.seal()), expected, rtol=1e-4, atol=1e-6)
    for chunk_bytes in (1024, 1088, sealing.CHUNK_BYTES, sealing.MAX_CHUNK_BYTES):
        sealed = seal(model(), any_device.key, chunk_bytes=chunk_bytes)
        np.testing.assert_allclose(any_device.open(sealed), expected, rtol=1e-4, atol=1e-6)


def test_the_device_keeps_its_key_and_every_device_has_its_own(device):
    assert device.board.device_key() == device.key == EmulatedBoard(storage=device.storage).device_key()
    assert len({EmulatedBoard().device_key(), EmulatedBoard().device_key(), device.key}) == 3


def _own_model_twice(device: Device) -> tuple[list[bytes], list[bytes]]:
    return records(device.seal()), records(device.seal())


MISTAKES = {
    "HEADER": lambda d: d.seal()[: HEADER.size - 1],
    "FORMAT": lambda d: d.seal()[:4] + b"\x02" + d.seal()[5:],
    "WRONG_DEVICE": lambda d: seal(model(), EmulatedBoard().device_key(), chunk_bytes=CHUNK_BYTES),
    "KEY": lambda d: (s := d.seal())[:88] + bytes(64) + s[152:],
    "CHUNK": lambda d: d.seal()[:-1],
    "FOREIGN_CHUNK": lambda d: _swapped(d.seal(), d.seal(model_id=OTHER_ID), 2),
    "OLDER_CHUNK": lambda d: _swapped(d.seal(version=2), d.seal(version=1), 2),
    "REORDERED": lambda d: b"".join((r := records(d.seal()))[:2] + [r[3], r[2]] + r[4:]),
    "AUTHENTICATION": lambda d: (s := d.seal())[:-1] + bytes([s[-1] ^ 1]),
    "TRUNCATED": lambda d: b"".join(records(d.seal())[:-1]),
    "SURPLUS": lambda d: (s := d.seal()) + records(s)[-1],
    "MODEL_ID": lambda d: d.seal(model_id=OTHER_ID),
}


def _swapped(sealed: bytes, other: bytes, at: int) -> bytes:
    mine, others = records(sealed), records(other)
    return b"".join([*mine[:at], others[at], *mine[at + 1 :]])


@pytest.mark.parametrize("reason", MISTAKES)
def test_every_mistake_has_its_own_refusal(any_device, reason):
    assert any_device.refuses(MISTAKES[reason](any_device)) == reason


def test_every_refusal_is_provoked_by_a_test():
    tested = {*MISTAKES, "OLDER"}  # whose test follows
    assert tested == {error.name for error in SealedError}


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        (lambda d: _swapped(d.seal(), d.seal(), 1), "FOREIGN_CHUNK"),  # another sealing of the same model
        (lambda d: b"".join((r := records(d.seal()))[:1] + [r[-1], *r[1:-1]]), "REORDERED"),  # the short one first
        (lambda d: b"".join((r := records(d.seal()))[:2] + r[3:]), "REORDERED"),  # one left out
        (lambda d: b"".join((r := records(d.seal()))[:2] + r[1:]), "REORDERED"),  # one twice
        (lambda d: d.seal()[: HEADER.size], "TRUNCATED"),
        (lambda d: d.seal() + b"x", "SURPLUS"),
        (lambda d: d.seal()[: HEADER.size] + b"junk" * 400, "CHUNK"),
        (lambda d: (s := d.seal())[:87] + b"\xff" * 64 + s[151:], "WRONG_DEVICE"),
        (lambda d: (s := d.seal())[:88] + b"\xff" * 64 + s[152:], "KEY"),  # above the prime
    ],
)
def test_variants_of_those_mistakes(device, sealed, reason):
    assert device.refuses(sealed(device)) == reason


def test_an_older_version_is_refused_for_good(device):
    old, new = device.seal(version=3), device.seal(version=4)
    device.open(old)
    device.open(new)
    assert device.refuses(old) == "OLDER"
    device.board = EmulatedBoard(storage=device.storage)  # as after a reboot
    with pytest.raises(SealedRefused, match="of version 3: the device has opened a newer version of this model, 4"):
        device.open(old)
    assert device.refuses(device.seal()) == "OLDER"  # uncounted, after a counted one
    device.open(new)
    device.open(device.seal(version=5))
    assert device.refuses(new) == "OLDER"


def test_a_version_counts_only_when_the_model_was_opened(device):
    newer = device.seal(version=9)
    assert device.refuses(newer[:-1]) == "CHUNK"
    assert device.refuses(newer[:-1] + bytes([newer[-1] ^ 1])) == "AUTHENTICATION"
    device.open(device.seal(version=1))


@pytest.mark.parametrize("which", ["device-key", "version-"])
def test_damage_in_secure_storage_is_an_error_and_nothing_is_replaced(device, which):
    device.open(device.seal(version=7))
    (file,) = [f for f in device.storage.iterdir() if bytes.fromhex(f.name).startswith(which.encode())]
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(BoardError, match="0xf0100001"):
            device.open(device.seal(version=6))
    assert file.read_bytes() == bytes(damaged)
    if which == "device-key":
        with pytest.raises(BoardError, match="0xf0100001"):
            device.board.device_key()


@contextlib.contextmanager
def agent_of(device: Device) -> Iterator[object]:
    """One agent for many loads."""
    with device.board._connected() as connection:
        try:
            yield connection
        finally:
            connection.close()


def load(connection, public: bytes, sealed: bytes) -> None:
    connection.ask(FrameType.LOAD, wire.LOAD.pack(len(public), len(sealed), 0))
    connection.ask(FrameType.LOAD_DATA, public + sealed)


def test_no_flipped_bit_goes_unnoticed_and_nothing_stays_loaded(device):
    public, sealed = device.files.public.read_bytes(), device.seal(version=1)
    fields = {
        "HEADER": [*range(4), *range(28, 40), *range(184, 192)],
        "FORMAT": range(4, 8),
        "WRONG_DEVICE": range(56, 88),
        "KEY": range(88, 152),
        "AUTHENTICATION": range(152, 184),
    }
    expected = {at: reason for reason, places in fields.items() for at in places}
    question = wire.INFER.pack(1, 0) + IMAGES[:1].tobytes()
    with agent_of(device) as connection:
        load(connection, public, sealed)
        answer = connection.ask(FrameType.INFER, question)

        @settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.one_of(st.integers(0, HEADER.size + CHUNK.size), st.integers(0, len(sealed) - 1)), st.integers(0, 7))
        def check(at, bit):
            changed = bytearray(sealed)
            changed[at] ^= 1 << bit
            with pytest.raises(SealedRefused) as refused:
                load(connection, public, bytes(changed))
            if at in expected:
                # A size that is as consistent as the right one is found out by the first tag.
                allowed = {expected[at], "AUTHENTICATION"} if 28 <= at < 36 else {expected[at]}
                assert refused.value.reason in allowed
            with pytest.raises(BoardError, match="no deployment is loaded"):
                connection.ask(FrameType.INFER, question)

        check()
        load(connection, public, sealed)
        assert connection.ask(FrameType.INFER, question) == answer


def test_any_bytes_are_refused_and_the_agent_lives(device):
    public, sealed = device.files.public.read_bytes(), device.seal()
    pieces = st.one_of(st.binary(max_size=300), st.sampled_from(records(sealed)))
    with agent_of(device) as connection:

        @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(st.lists(pieces, min_size=1, max_size=12).map(b"".join))
        def check(data):
            if not data or data == sealed:
                return
            with pytest.raises(SealedRefused):
                load(connection, public, data)

        check()
        load(connection, public, sealed)


def test_the_host_may_send_the_files_in_any_pieces(device):
    both = device.files.public.read_bytes() + device.seal()
    n_public = device.files.public.stat().st_size
    with agent_of(device) as connection:
        for step in (1000, n_public - 1, n_public, n_public + 1):
            connection.ask(FrameType.LOAD, wire.LOAD.pack(n_public, len(both) - n_public, 0))
            for at in range(0, len(both), step):
                answer = connection.ask(FrameType.LOAD_DATA, both[at : at + step])
            assert len(answer) > wire.LOADED.size


def test_what_goes_to_the_agent_holds_no_hidden_byte(device, monkeypatch):
    sent = bytearray()

    def spy(self, kind, *body, **options):
        sent.extend(b"".join(bytes(part) for part in body))
        return ask(self, kind, *body, **options)

    ask = Connection.ask
    monkeypatch.setattr(Connection, "ask", spy)
    with device.board.open(device.files):
        pass
    plain = device.files.sealed.read_bytes()
    assert device.files.public.read_bytes() in sent
    telling = [run for at in range(2048, len(plain) - 16, 8) if len({*(run := plain[at : at + 16])}) > 8]
    assert len(telling) > 300
    assert not any(run in sent for run in telling)


def test_sealing_twice_gives_different_bytes_and_keys():
    key = sealing._raw_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    one, two = seal(model(), key), seal(model(), key)
    assert one[40:56] != two[40:56]
    assert one[88:184] != two[88:184]
    assert one[HEADER.size + CHUNK.size :] != two[HEADER.size + CHUNK.size :]
    assert HEADER.unpack_from(one)[8] == hashlib.sha256(key).digest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device_key": bytes(64)}, "a point of P-256"),
        ({"device_key": bytes(63)}, "64 bytes"),
        ({"model": b"LBS1" + bytes(200)}, "does not begin with LBM1"),
        ({"model": b"LBM1"}, "no model file"),
        ({"version": -1}, "version -1"),
        ({"version": 2**32}, "version 4294967296"),
        ({"chunk_bytes": 1000}, "chunks of 1000 bytes"),
        ({"chunk_bytes": 1025}, "multiple of 64"),
        ({"chunk_bytes": 2**19}, "chunks of 524288 bytes"),
    ],
)
def test_what_cannot_be_sealed_is_named(change, message):
    key = sealing._raw_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    arguments = {"model": model(), "device_key": key} | change
    with pytest.raises(SealingError, match=re.escape(message)):
        seal(**arguments)


def test_keys_as_pem():
    pair = ec.generate_private_key(ec.SECP256R1())
    key = sealing._raw_key(pair.public_key())
    assert key_from_pem(key_to_pem(key)) == key
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    encoding, form = sealing.serialization.Encoding.PEM, sealing.serialization.PublicFormat.SubjectPublicKeyInfo
    for pem in (
        b"",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        other.public_bytes(encoding, form),
    ):
        with pytest.raises(SealingError, match="P-256 public key"):
            key_from_pem(pem)


RFC_5869 = {
    "A.1": ("0b" * 22, bytes(range(13)).hex(), bytes(range(0xF0, 0xFA)).hex(), 42),
    "A.2": (bytes(range(0x50)).hex(), bytes(range(0x60, 0xB0)).hex(), bytes(range(0xB0, 0x100)).hex(), 82),
    "A.3": ("0b" * 22, "", "", 42),
}
RFC_5869_KEYS = {
    "A.1": "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    "A.2": "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c"
    "2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    "A.3": "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
}


@pytest.mark.parametrize("sanitize", [False, True], ids=["plain", "sanitized"])
def test_the_ta_s_hkdf_is_rfc_5869_s(sanitize):
    cases = [(salt, secret, info, n) for secret, salt, info, n in RFC_5869.values()]
    keys = list(RFC_5869_KEYS.values())
    rng = np.random.default_rng(0)
    for n_salt, n_secret, n_info, n in [
        (32, 32, 168, 32),
        (63, 1, 0, 1),
        (64, 32, 1, 33),
        (65, 40, 9, 64),
        (128, 9, 9, 8160),
    ]:
        salt, secret, info = (rng.bytes(size) for size in (n_salt, n_secret, n_info))
        cases.append((salt.hex(), secret.hex(), info.hex(), n))
        keys.append(HKDF(algorithm=SHA256(), length=n, salt=salt, info=info).derive(secret).hex())
    cases += [("00" * 129, "00", "-", 32), ("00", "00", "-", 8161)]
    keys += ["0xffff0006", "0xffff0006"]
    lines = "".join(f"{salt or '-'} {secret or '-'} {info or '-'} {n}\n" for salt, secret, info, n in cases)
    source = Path(__file__).parent / "c" / "hkdf_vectors.c"
    program = build_program(source, ("secure", "ta", "streaming", "runtime", "kernels"), sanitize=sanitize)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == keys


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["point", "other y", "random"]))
@settings(deadline=None, max_examples=200)
def test_points_of_the_curve_are_told_from_others(seed, kind):
    scalar = int.from_bytes(seed, "big") % (2**256 - 2**225) + 1
    key = bytearray(sealing._raw_key(ec.derive_private_key(scalar, ec.SECP256R1()).public_key()))
    if kind == "other y":
        key[63] ^= 1
    elif kind == "random":
        key[:32] = seed
    try:
        sealing._load_key(bytes(key))
        expected = 1
    except SealingError:
        expected = 0
    assert expected == (kind == "point") or kind == "random"
    assert kernels().lb_p256_is_point((ctypes.c_uint8 * 64)(*key)) == expected


P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def test_points_at_the_edge_of_the_field():
    root = pow(B, (P + 1) // 4, P)  # the points with x = 0
    cases = {(0, root): 1, (0, P - root): 1, (0, 0): 0, (P, root): 0, (0, root + P): 0, (2**256 - 1, 2**256 - 1): 0}
    for (x, y), expected in cases.items():
        if y < 2**256:
            key = x.to_bytes(32, "big") + y.to_bytes(32, "big")
            assert kernels().lb_p256_is_point((ctypes.c_uint8 * 64)(*key)) == expected, (x, y)


def test_every_sealed_error_has_its_text():
    kernels().lb_sealed_strerror.restype = ctypes.c_char_p
    texts = [kernels().lb_sealed_strerror(error).decode() for error in SealedError]
    assert len({*texts}) == len(texts)
    assert kernels().lb_sealed_strerror(99) == b"unknown error"


def test_a_missing_libcrypto_is_one_clear_error(tmp_path, monkeypatch):
    (tmp_path / "libcrypto.so.3").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(BoardError, match="apt-get install libssl3"):
        EmulatedBoard().device_key()


def test_a_storage_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(BoardError, match="secure storage does not exist"):
        EmulatedBoard(storage=tmp_path / "nowhere")


def test_seal_and_board_key_on_the_command_line(tmp_path, device, capsys):
    key, plain, sealed = tmp_path / "key.pem", tmp_path / "plain.lbm", tmp_path / "out.lbs"
    key.write_bytes(key_to_pem(device.key))
    plain.write_bytes(model())
    arguments = ["seal", str(plain), "--device-key", str(key), "-o", str(sealed), "--version", "2"]
    assert main(arguments) == 0
    np.testing.assert_array_equal(device.open(sealed.read_bytes()), device.open(device.seal(version=2)))
    assert device.refuses(device.seal(version=1)) == "OLDER"
    assert main(["board", "key", "--board", "emulated", "-o", str(key)]) == 0
    assert "is gone already" in capsys.readouterr().err
    assert main(arguments) == 0
    assert device.refuses(sealed.read_bytes()) == "WRONG_DEVICE"


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"--device-key": "no.pem"}, "cannot read no.pem: No such file"),
        ({"--device-key": "plain.lbm"}, "plain.lbm: a device key is a P-256 public key in PEM"),
        ({"plain.lbm": "key.pem"}, "key.pem: what should be sealed"),
        ({"-o": "no/out.lbs"}, "cannot write no/out.lbs: No such file"),
        ({"--version": "-1"}, "version -1"),
    ],
)
def test_what_seal_cannot_do_is_one_line(tmp_path, monkeypatch, capsys, replaced, said):
    monkeypatch.chdir(tmp_path)
    pair = ec.generate_private_key(ec.SECP256R1())
    Path("key.pem").write_bytes(key_to_pem(sealing._raw_key(pair.public_key())))
    Path("plain.lbm").write_bytes(model())
    options = {"--device-key": "key.pem", "-o": "out.lbs", "--version": "1"}
    plain = replaced.get("plain.lbm", "plain.lbm")
    options |= {name: value for name, value in replaced.items() if name != "plain.lbm"}
    assert (
        main(
            [
                "seal",
                plain,
                *(f"{name}={value}" if name[1] == "-" else f"{name}{value}" for name, value in options.items()),
            ]
        )
        == 1
    )
    assert said in capsys.readouterr().err
    assert not Path("out.lbs").exists()
