"""Secrets are taken out of what is echoed: URLs, connection strings, flags, and errors that repeat them.

Where it is not clear what is secret, more is hidden rather than less: of two `@` the last one ends a password.
"""

import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

HIDDEN = "***"
LEAST_REPEATED = 4  # characters of a secret that is looked for by itself: shorter ones would be found in any word
STRONG = r"password|passwd|passphrase|pwd|secret|credential|apikey|accesskey|privatekey|accountkey|signature"
# What a name means, in lower case and without its separators. Tokens of a tokenizer are no secrets.
SECRET_NAME = re.compile(rf"\w*({STRONG})\w*|(?!(?:\w*(?:eos|bos|pad|unk|sep|cls|mask|start))?token$)\w+token|userpass")
# Such names say it only in a query, or as a flag of their own.
WEAK_NAME = re.compile(r"pass|pw|pin|otp|key|\w+key|token|sig|sas|auth|authorization|jwt|bearer|session\w*|sid")
# A user and a password with a space in it, or whatever goes on to the next space.
URL = re.compile(r"(?P<scheme>[a-z][\w+.-]{0,30}:/{1,3}|(?<![:/\w])//)"
                 r"(?P<rest>[^\s:/?#@]*:(?!\d+(?:[\s/?#]|$))[^\n@]{1,100}@\S*|\S+)", re.IGNORECASE)  # fmt: skip
# Of some servers the user has an @ of its own.
BARE = re.compile(r"(?<![\w/:.@*%+-])(?P<user>[\w.%+-]*(?:@[\w.-]+)?):(?P<secret>[^\s/]\S{0,200})@(?=[\w\[])")
PORT = re.compile(r"\d{1,5}(/|[?#][\w.%-]+=)")
HOST = re.compile(r"[\w.\[\]:-]*(/|$)")
NO_PORT = re.compile(r"(?!(?i:port)\b)[^\W_]*[^\W\d_]\S*")  # stands where a port would: a password, its host left out
QUERY = re.compile(r"[?&;][\w.%-]+=")
NAMED = re.compile(
    r"(?P<lead>^|[\s?&;,|{(\[<\"'`#-])(?P<name>[\w.%\[\]-]{1,60})(?P<sign>=|[\"']\s*:\s*|%3D)"
    r"(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\{[^}]*\}|(?:[^\s&;]|[&;](?!\s|$|[\w.%-]{1,60}=))*)",
    re.IGNORECASE,
)
HEADER = re.compile(
    r"(?P<name>\b(?:authorization|(?:set-)?cookie|x-[\w-]*(?:key|token|secret|password))[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<value>(?:(?:bearer|basic|token)\s+)?[^\s\"',]+)", re.IGNORECASE
)  # fmt: skip
WEB = re.compile(r"(\w+\+)?(https?|ftps?|wss?|git|hf|s3a?):/", re.IGNORECASE)


def redact(text: str, *references: str | None) -> str:
    """Return text with `***` for each secret in it, and for those of the references, however they are repeated."""
    shown = _redact_words(text, [])
    known = {secret for reference in references for secret in _secrets_of(reference or "")}
    for secret in sorted(known, key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    return shown


def shorten(reference: str) -> str:
    """Return one reference as a message shows it: without its secrets, or cut where it is none that can be read."""
    if "://" in reference:
        return redact(re.sub(r"\s", "%20", reference.strip()))  # A secret may have a space in it.
    shown, plain = redact(reference), unquote(reference)
    is_other = shown == reference and not os.path.exists(reference)
    may_hide = is_other and re.search("[@=]", plain) and re.search(r"[:;\s]", plain)
    return f"{reference[:10]}..." if may_hide else shown


def redact_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments of a command with `***` for each secret, also where it follows its flag."""
    shown, expects = [], False
    for argument in arguments:
        is_hidden = expects and not argument.startswith("--")
        shown.append(HIDDEN if is_hidden else redact(argument))
        is_flag = not is_hidden and argument.startswith("-") and "=" not in argument
        expects = is_flag and (argument == "-p" or is_secret_name(argument))
    return shown


def redact_values(values):
    """Return nested values with `***` for each secret in their texts, and for texts under a name that says so."""
    if isinstance(values, dict):
        return {
            name: _hide_texts(value) if is_secret_name(str(name), weak=False) else redact_values(value)
            for name, value in values.items()
        }
    if isinstance(values, list | tuple):
        texts = all(isinstance(value, str) for value in values)
        return type(values)(redact_arguments(values) if texts else map(redact_values, values))
    return redact(values) if isinstance(values, str) else values


def _hide_texts(value):
    """Return a value of a secret's name with `***` for each text in it; a number may be the score of such a label."""
    if isinstance(value, str):
        return HIDDEN if value else value
    if isinstance(value, dict):
        return {name: _hide_texts(inner) for name, inner in value.items()}
    return [_hide_texts(inner) for inner in value] if isinstance(value, list | tuple) else value


def is_secret_name(name: str, weak: bool = True) -> bool:
    """Say whether a parameter or flag of this name holds a secret, in any letter case.

    Args:
        weak: also for names such as `key`, which mean other things elsewhere.
    """
    plain = re.sub(r"[\W_]", "", unquote(name).rpartition(".")[2].lower())
    return bool(SECRET_NAME.fullmatch(plain) or (weak and WEAK_NAME.fullmatch(plain)))


def _secrets_of(reference: str) -> set[str]:
    """Return the secrets of a reference as errors repeat them: as written, decoded, and cut where a driver cuts."""
    found: list[str] = []
    _redact_words(reference, found)
    _redact_words(re.sub(r"\s", "%20", reference), found)
    whole = {form for secret in found for form in (secret, unquote(secret))}
    pieces = {piece for secret in whole for piece in re.split(r"[@/:?#&\s]", secret)}
    return {secret for secret in whole | pieces if len(secret) >= LEAST_REPEATED}


def _redact_words(text: str, found: list[str]) -> str:
    """Return text without its secrets, those behind percent signs too, and add them to `found`."""
    shown = _redact_plain(text, found)
    if "%" not in shown:
        return shown
    return re.sub(r"\S+", lambda match: _redact_encoded(match[0], found) if "%" in match[0] else match[0], shown)


def _redact_encoded(word: str, found: list[str]) -> str:
    """Return a word as it is, or decoded and without secrets where it has some then."""
    decoded = word
    for _ in range(3):
        decoded = unquote(decoded)
        shown = _redact_plain(decoded, found)
        if shown.count(HIDDEN) > word.count(HIDDEN):
            return shown
    return word


def _redact_plain(text: str, found: list[str]) -> str:
    text = _hide_users(text, found)
    text = BARE.sub(lambda match: f"{match['user']}:{_hide(match['secret'], found)}@", text)
    text = HEADER.sub(lambda match: match["name"] + _hide(match["value"], found), text)
    return NAMED.sub(lambda match: _hide_named(match, found), text)


def _hide(secret: str, found: list[str]) -> str:
    if secret.strip(HIDDEN[0] + "'\"{}"):
        found.append(secret.strip("'\"{}"))
    return HIDDEN


def _hide_users(text: str, found: list[str], depth: int = 0) -> str:
    """Return text without the passwords before hosts, in URLs within URLs too."""

    def hide(match: re.Match) -> str:
        scheme, rest = match["scheme"], match["rest"]
        query = QUERY.search(rest)
        _, at, host = rest[: query.start() if query else 0].rpartition("@")
        if query and (":" not in rest[: query.start()] or (at and HOST.match(host))):
            rest, more = rest[: query.start()], rest[query.start() :]
        else:  # A password with a question mark, or no query.
            more = ""
        shown = _hide_user(scheme, rest, found)
        if depth < 3:
            shown = shown if shown != rest else _hide_users(rest, found, depth + 1)
            more = _hide_users(more, found, depth + 1)
        return scheme + shown + more

    return URL.sub(hide, text)


def _hide_user(scheme: str, rest: str, found: list[str]) -> str:
    """Return what follows `scheme://`, without its query, without the password before its host."""
    before, at, host = rest.rpartition("@")
    user, colon, secret = before.partition(":")
    if not at:
        user, colon, secret = rest.partition(":")
        secret = re.split("[/?#]", secret, maxsplit=1)[0]
        is_open = scheme.endswith("://") and not WEB.match(scheme) and not set(user) & set("/[")
        is_secret = is_open and NO_PORT.fullmatch(secret)
        return f"{user}:{_hide(secret, found)}{rest[len(user) + 1 + len(secret) :]}" if is_secret else rest
    if "/" in user or (PORT.match(secret) and WEB.match(scheme)):  # An address with an @ in its path.
        return rest
    if not colon:  # A token alone, as GitHub's, or the name of a database's user.
        return f"{_hide(user, found)}@{host}" if WEB.match(scheme) else rest
    return f"{user}:{_hide(secret, found)}@{host}"


def _hide_named(match: re.Match, found: list[str], depth: int = 0) -> str:
    in_query = match["lead"] in ("?", "&", ";", "#", "-") or match["name"].startswith("-")
    is_secret = is_secret_name(match["name"], weak=in_query)
    if not match["value"].strip("'\"{}"):
        return match[0]
    if not is_secret:  # Another name and value may be in it, as in --flag=name=value.
        value = match["value"]
        deeper = depth < 3 and "=" in value
        inner = NAMED.sub(lambda inner: _hide_named(inner, found, depth + 1), value) if deeper else value
        return f"{match['lead']}{match['name']}{match['sign']}{inner}"
    quote = match["value"][0] if match["sign"] != "=" and match["value"][0] in "'\"" else ""
    return f"{match['lead']}{match['name']}{match['sign']}{quote}{_hide(match['value'], found)}{quote}"
