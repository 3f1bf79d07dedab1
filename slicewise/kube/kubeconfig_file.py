"""A kubeconfig file, read as kubectl reads it before the official client is given what it says.

That client's own reader lets anything through, and takes a token that looks like a date for one.

The fields are those of client-go's `tools/clientcmd/api/v1`; what is not read here is not looked at.
"""

from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec

from slicewise.kube import yaml
from slicewise.kube.errors import ConfigError


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    proxy_url: str | None = None
    tls_server_name: str | None = None


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str | None = None
    namespace: str | None = None


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    username: str | None = None
    password: str | None = None
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None
    as_user: str | None = msgspec.field(name="as", default=None)
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _File(msgspec.Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    contexts: list[_NamedContext] | None = None
    users: list[_NamedUser] | None = None
    current_context: str | None = None


def read(path: Path) -> dict[str, Any]:
    """Returns what a kubeconfig says.

    Raises:
        ConfigError: it is none; says what is wrong, and on which line where that is known.
        OSError: it cannot be read.
    """
    try:
        value: dict[str, Any] | None = yaml.load_one(path.read_text(encoding="utf-8"))
        if value is None:
            raise ConfigError("the file is empty; name another one")
        file = msgspec.convert(value, _File)
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8; write it as kubectl config view --raw prints it") from None
    except yaml.YamlError as error:
        line = f"line {error.line}: " if error.line else ""
        fix = "" if "; " in error.problem else "; compare with kubectl config view --raw"
        raise ConfigError(f"{line}{error.problem}{fix}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}; compare with kubectl config view --raw") from None
    for each in file.clusters or ():
        _base64(f"cluster {each.name}", each.cluster, "certificate_authority_data")
    for user in file.users or ():
        _base64(f"user {user.name}", user.user, "client_certificate_data", "client_key_data")
    return value


def _base64(title: str, holder: msgspec.Struct | None, *fields: str) -> None:
    for field in fields:
        text: str | None = getattr(holder, field, None)
        try:
            b64decode(text or "", validate=True)
        except ValueError:
            raise ConfigError(f"{title}: {field.replace('_', '-')} is not base64; write it anew") from None
