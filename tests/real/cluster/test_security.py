"""Every kind of authentication of a NATS server: right credentials work, wrong ones are reported, none leak."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import psutil
import pytest

from mob.cluster.carrier import Carrier
from mob.plan import Cluster, Plan
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes
from tests.running import wait_until

ROLES = '.role("back", "./back.py").role("front", "./front.py")'
BACK = "def foo(x): return x + 1"
SECRET = "Gy4xQ-secret"


@dataclass
class Way:
    """How a server authenticates, and what a machine gives."""

    arguments: tuple[str, ...]
    right: dict[str, str]
    wrong: dict[str, str]
    told: str
    scheme: str = "nats"


def nkey(kind: int) -> tuple[str, str]:
    """Make a seed and its public key."""
    seed = nkeys.encode_seed(os.urandom(32), kind)
    pair: Any = nkeys.from_seed(bytearray(seed))
    return seed.decode(), pair.public_key.decode()


def jwt(claims: dict[str, Any], issuer: str) -> str:
    """Make a token as `nsc` does: signed with the key of its issuer."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    pair: Any = nkeys.from_seed(bytearray(issuer.encode()))
    body = {"iat": int(time.time()), "iss": pair.public_key.decode(), **claims}
    digest = hashlib.sha256(json.dumps(body).encode()).digest()
    body["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = part(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    text = f"{head}.{part(json.dumps(body).encode())}"
    return f"{text}.{part(pair.sign(text.encode()))}"


def credentials(directory: Path) -> Way:
    """Make operator, account and user as in NATS: the server knows the operator and the account."""
    operator, operator_key = nkey(nkeys.PREFIX_BYTE_OPERATOR)
    account, account_key = nkey(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    account_jwt = jwt(
        {
            "sub": account_key,
            "name": "A",
            "nats": {"limits": {**limits, "wildcards": True}, "type": "account", "version": 2},
        },
        operator,
    )
    operator_jwt = jwt({"sub": operator_key, "name": "O", "nats": {"type": "operator", "version": 2}}, operator)
    (directory / "operator.jwt").write_text(operator_jwt)
    (directory / "nats.conf").write_text(
        f'operator: "{directory / "operator.jwt"}"\nresolver: MEMORY\n'
        f"resolver_preload: {{ {account_key}: {account_jwt} }}\n"
    )
    for name, issuer in (("right", account), ("wrong", nkey(nkeys.PREFIX_BYTE_ACCOUNT)[0])):
        user, user_key = nkey(nkeys.PREFIX_BYTE_USER)
        user_jwt = jwt(
            {
                "sub": user_key,
                "name": "U",
                "nats": {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2},
            },
            issuer,
        )
        (directory / f"{name}.creds").write_text(
            f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user}\n------END USER NKEY SEED------\n"
        )
    arguments = ("-c", str(directory / "nats.conf"))
    files = {name: {"credentials": str(directory / f"{name}.creds")} for name in ("right", "wrong")}
    return Way(arguments, files["right"], files["wrong"], "rejects the authentication of this machine")


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def certificates(directory: Path, name: str) -> None:
    """Make a certificate authority, and a certificate of it for 127.0.0.1."""
    subject = ("-subj", f"/CN={name}", "-days", "2", "-newkey", "rsa:2048", "-nodes")
    signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 insists on it
    openssl(directory, "req", "-x509", *subject, *signs, "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem")
    openssl(directory, "req", *subject[:2], *subject[4:], "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    signed = ("-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")


def tls(directory: Path, verify: bool) -> Way:
    for name in ("own", "other"):
        certificates(directory, name)
    own = ("--tls", "--tlscert", str(directory / "own.pem"), "--tlskey", str(directory / "own.key"))
    ca = {"ca": str(directory / "own-ca.pem")}
    if not verify:
        return Way(own, ca, {"ca": str(directory / "other-ca.pem")}, "has a certificate that is not trusted", "tls")
    mine = {"cert": str(directory / "own.pem"), "key": str(directory / "own.key")}
    strange = {"cert": str(directory / "other.pem"), "key": str(directory / "other.key")}
    arguments = (*own, "--tlsverify", "--tlscacert", str(directory / "own-ca.pem"))
    return Way(arguments, {**ca, **mine}, {**ca, **strange}, "cannot be", "tls")


def way(kind: str, directory: Path) -> Way:
    inside = "rejects the authentication of this machine .*Check what .cluster"
    match kind:
        case "user":
            right = {"user": "me", "password": SECRET}
            return Way(("--user", "me", "--pass", SECRET), right, {**right, "password": f"{SECRET}2"}, inside)
        case "token":
            return Way(("--auth", SECRET), {"token": SECRET}, {"token": f"{SECRET}2"}, inside)
        case "nkey":
            (seed, public), (other, _) = nkey(nkeys.PREFIX_BYTE_USER), nkey(nkeys.PREFIX_BYTE_USER)
            (directory / "nats.conf").write_text(f"authorization {{ users: [{{ nkey: {public} }}] }}\n")
            for name, text in (("right", seed), ("wrong", other)):
                (directory / f"{name}.nk").write_text(text)
            files = {name: {"nkey": str(directory / f"{name}.nk")} for name in ("right", "wrong")}
            return Way(("-c", str(directory / "nats.conf")), files["right"], files["wrong"], inside)
        case "credentials":
            return credentials(directory)
        case _:
            return tls(directory, kind == "tls both ways")


@pytest.mark.parametrize("kind", ["user", "token", "nkey", "credentials", "tls", "tls both ways"])
def test_who_is_let_in(kind: str, tmp_path: Path, nodes: Nodes) -> None:
    asked = way(kind, tmp_path)
    with Nats(tmp_path / "nats", *asked.arguments, has_jetstream=kind != "credentials") as nats:
        url = nats.url.replace("nats://", f"{asked.scheme}://")
        (a,) = nodes.start(url, ROLES, ("a",), cluster=said(asked.right), back=BACK, front="")
        a.wait_for("this machine, 'a', takes part in the cluster")
        assert a.client.require("back").foo(1).result(patient(10)) == 2
        nodes.describe(url, ROLES, cluster=said(asked.wrong), back=BACK, front="")
        b = nodes.launch("b")
        b.wait_for(f"cannot reach the other machines: NATS at .*{asked.told}")
        for node in (a, b):
            assert_no_secret(node, nodes, SECRET, [*read_secrets(tmp_path)])
        assert b.stop() == 0


def said(options: dict[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def read_secrets(directory: Path) -> list[str]:
    """The secrets, and the seeds in files that the app uses."""
    texts = [path.read_text() for path in (*directory.glob("*.nk"), *directory.glob("*.creds"))]
    return [word for text in texts for word in text.split() if word.startswith("SU")]


def assert_no_secret(node: Node, nodes: Nodes, *secrets: Any) -> None:
    """They are in nothing that other users can see."""
    flat = [word for each in secrets for word in ([each] if isinstance(each, str) else each)]
    environment = {"XDG_STATE_HOME": str(nodes.directory / f"state-{node.node}")}
    shown = [node.output]
    for pid in node.processes():
        with psutil.Process(pid).oneshot():
            shown.append(" ".join(psutil.Process(pid).cmdline()))
        if pid != node.process.pid:
            shown.append(str(psutil.Process(pid).environ()))
    for command in (("ps", "-a", node.name), ("ps", "--json", "-a", node.name), ("crashes", node.name)):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "mob"), *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        shown += [done.stdout, done.stderr]
    for path in (nodes.directory / f"state-{node.node}").rglob("*"):
        if path.is_file():
            shown.append(path.read_text(errors="replace"))
    for text in shown:
        for secret in flat:
            assert secret not in text


def test_a_password_in_the_address_stays_with_the_kingpin(tmp_path: Path, nodes: Nodes) -> None:
    back = "import os\ndef env(): return dict(os.environ)\ndef die(): os._exit(3)"
    with Nats(tmp_path / "nats", "--user", "me", "--pass", SECRET) as nats:
        nodes.write(
            back=back, main=f"import mob\nmob.start({nodes.app!r}).base(__file__).role('back', './back.py').run()"
        )
        a = nodes.launch("a", None, MOB_CLUSTER=nats.url.replace("://", f"://me:{SECRET}@"))
        nodes.wait_together(a)
        a.wait_for("this machine, 'a', takes part in the cluster")
        assert SECRET not in str(a.client.require("back").env().result(patient(10)))
        a.client.require("back").die().exception(patient(10))
        a.wait_for("exit.* status 3|status 3")
        assert_no_secret(a, nodes, SECRET)
        nats.kill()
        a.wait_for("cannot reach the other machines")
        assert_no_secret(a, nodes, SECRET)


def test_tls_is_not_given_up_for_a_server_that_has_none(tmp_path: Path, nodes: Nodes) -> None:
    certificates(tmp_path, "own")
    with Nats(tmp_path / "nats", "--user", "me", "--pass", SECRET) as nats:
        url = nats.url.replace("nats://", "tls://")
        nodes.describe(
            url,
            ROLES,
            cluster=said({"ca": str(tmp_path / "own-ca.pem"), "user": "me", "password": SECRET}),
            back=BACK,
            front="",
        )
        a = nodes.launch("a")
        a.wait_for("cannot reach the other machines: NATS at ")
        assert "takes part in the cluster" not in a.output


def test_a_file_that_makes_no_sense(nats: Nats, nodes: Nodes) -> None:
    nodes.write(seed="not a seed")
    nodes.describe(nats, ROLES, cluster='nkey="seed.py"', back=BACK, front="")
    nodes.launch("a").wait_for("cannot reach the other machines: NATS at .* the nkey or the credentials are invalid")


def test_an_open_door_is_told_of(nodes: Nodes) -> None:
    nodes.describe("nats://192.0.2.1:4222", ROLES, back=BACK, front="")
    a = nodes.launch("a")
    a.wait_for("mob: NATS at nats://192.0.2.1:4222 requires no authentication: anyone who can reach it can call")


@pytest.mark.parametrize(
    ("servers", "options", "is_open"),
    [
        (("nats://127.0.0.1:4222",), {}, False),
        (("nats://localhost",), {}, False),
        (("nats://[::1]:4222",), {}, False),
        (("nats://10.0.0.1:4222",), {}, True),
        (("nats://127.0.0.1", "nats://10.0.0.1"), {}, True),
        (("tls://10.0.0.1:4222",), {"ca": "/x"}, True),  # the server has the certificate
        (("nats://me:pw@10.0.0.1",), {}, False),
        (("nats://10.0.0.1",), {"token": "t"}, False),
        (("nats://10.0.0.1",), {"nkey": "/x"}, False),
    ],
)
def test_when_a_door_is_open(servers: tuple[str, ...], options: dict[str, Any], is_open: bool) -> None:
    assert Cluster(servers, "a", **options).is_open is is_open


def test_no_representation_shows_a_secret() -> None:
    cluster = Cluster((f"nats://me:{SECRET}@host",), "a", user="me", password=SECRET, token=SECRET)
    plan = Plan("myapp", "/", cluster=cluster)
    carrier = Carrier("myapp", 1, 2, cluster, lambda letter: None, lambda why: None)
    for each in (cluster, plan, carrier):
        assert SECRET not in repr(each)
        assert SECRET not in str(each)
    assert wait_until(lambda: "host" in repr(cluster), "it shows something")


def test_what_a_user_may_not_do_on_the_server_is_told(tmp_path: Path, nodes: Nodes) -> None:
    (tmp_path / "nats.conf").write_text(
        f'authorization {{ users: [{{ user: me, password: "{SECRET}", permissions: {{ subscribe: "mob.>" , '
        f'publish: "other.>" }} }}] }}\n'
    )
    with Nats(tmp_path / "nats", "-c", str(tmp_path / "nats.conf")) as nats:
        nodes.describe(nats, ROLES, cluster=said({"user": "me", "password": SECRET}), back=BACK, front="")
        a = nodes.launch("a")
        a.wait_for("NATS denied a permission that mob needs: .*[Pp]ermissions [Vv]iolation for [Pp]ublish to .*mob")


def test_a_password_that_was_changed_is_told(tmp_path: Path, nodes: Nodes) -> None:
    nats = Nats(tmp_path / "nats", "--user", "me", "--pass", SECRET)
    with nats:
        (a,) = nodes.start(nats, ROLES, ("a",), cluster=said({"user": "me", "password": SECRET}), back=BACK, front="")
        a.wait_for("takes part in the cluster")
        nats.kill()
        nats._arguments = ("--user", "me", "--pass", "another")
        nats.start()
        a.wait_for(r"gateway\.0.*rejects the authentication of this machine .*Check what \.cluster")
        nats.kill()
        nats._arguments = ("--user", "me", "--pass", SECRET)
        nats.start()
        wait_until(lambda: not a.is_cut, "it is let in again")
