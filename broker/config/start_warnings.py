"""What an operator should know about a configuration that is good enough to start.

Two kinds: names that nobody knows, most often typing errors, which Kafka too only warns of; and keys that
are set but change nothing here, gathered by reason. Values are never shown: an unknown key may be a secret.

Runs in: supervisor, at start.
"""
from __future__ import annotations

from broker.config.describe import MECHANISM_KEYS, base_key
from broker.config.key_table import BROKER_KEYS
from broker.config.listeners import Listener
from broker.config.settings import Settings
from broker.config.treatment import NOT_CLUSTERED, UNUSED_REASONS, Kind

# Read by Kafka's authorizer, which cannot be configured here, and therefore known but idle.
_AUTHORIZER_KEYS = ("super.users", "allow.everyone.if.no.acl.found")
_AUTHORIZER_PREFIX = "authorizer."
_MECHANISM_ENDINGS = tuple(f".{key}" for key in MECHANISM_KEYS)
_NO_AUTHORIZER = "access control is not in this version yet"


def list_warnings(settings: Settings, listeners: list[Listener]) -> list[str]:
    prefixes = {f"listener.name.{listener.name.lower()}." for listener in listeners}
    idle: dict[str, list[str]] = {}
    warnings = []
    for name in sorted(settings.explicit):
        base = base_key(name)
        if base is not None and not any(name.startswith(prefix) for prefix in prefixes):
            warnings.append(f"{name}: no listener has this name, the key has no effect")
        elif reason := _idle_reason(settings, name, base):
            idle.setdefault(reason, []).append(name)
        elif not _is_known(name if base is None else base):
            warnings.append(_unknown_warning(name))
    warnings += [f"{', '.join(names)}: no effect, {reason}" for reason, names in idle.items()]
    return warnings


def _idle_reason(settings: Settings, name: str, base: str | None) -> str | None:
    """Why a key that is set has no effect; None if it has one, or is at its default."""
    if name in _AUTHORIZER_KEYS or name.startswith(_AUTHORIZER_PREFIX) and name not in BROKER_KEYS:
        return _NO_AUTHORIZER
    key = BROKER_KEYS.get(name if base is None else base)
    if key is None:
        return UNUSED_REASONS["no-authentication"] if name.endswith(_MECHANISM_ENDINGS) else None
    if base is None and settings[name] == key.default:
        return None
    if key.treatment.kind is Kind.CLUSTERED and settings["zookeeper.connect"] is None:
        return NOT_CLUSTERED
    return UNUSED_REASONS[key.treatment.reason] if key.treatment.kind is Kind.UNUSED else None


def _is_known(name: str) -> bool:
    return name in BROKER_KEYS


def _unknown_warning(name: str) -> str:
    """Names a likely key. difflib is loaded only here, for a case that should be rare."""
    from difflib import get_close_matches

    close = get_close_matches(name, BROKER_KEYS, n=1, cutoff=0.85)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{name}: unknown key, ignored{hint}"
