"""Who asks, and whether they may: tokens, scopes and rates, without a word of HTTP."""

from __future__ import annotations

import ipaddress

from verifykit.server.keys import ApiKey, KeyStore, Scope
from verifykit.server.limits import FailureLimiter, RateLimiter
from verifykit.server.problems import ProblemError

__all__ = ["Gate", "network_of"]

_BAD_TOKENS = 20
_BAD_TOKENS_S = 60.0


class Gate:
    """Lets requests in: :meth:`identify` says whose they are, :meth:`require` whether they may.

    An address that sends bad tokens is told to wait. A good token from there still passes, or one client
    could lock out all that share a proxy; and nobody finds 256 bits by trying.

    Args:
        keys: The keys.
        rate: How often each key may ask, or each address without keys; None for any number.
        open_without_keys: Whether everybody may do everything while no key was ever made. Only for a
            service that no other machine can reach.
        bad_tokens: How often an address may send a token that is nobody's; 20 a minute if not given.
    """

    def __init__(
        self,
        keys: KeyStore,
        *,
        rate: RateLimiter | None = None,
        open_without_keys: bool = False,
        bad_tokens: FailureLimiter | None = None,
    ) -> None:
        self._keys, self._rate = keys, rate
        self._open_without_keys = open_without_keys
        if bad_tokens is None:
            bad_tokens = FailureLimiter(_BAD_TOKENS, _BAD_TOKENS_S)
        self._bad_tokens = bad_tokens

    def identify(self, token: str | None, address: str) -> ApiKey | None:
        """Whose request this is.

        Args:
            token: What the client sent as ``Authorization: Bearer``; None without.
            address: The client's IP address.

        Returns:
            The key; None where the service is open.

        Raises:
            ProblemError: ``unauthorized``; ``rate_limited`` after too many bad tokens.
            GalleryError: The state file cannot be read.
        """
        if self._open_without_keys and not self._keys.any():
            return None
        if token is None:
            raise _unauthorized("this needs a key, and none was sent")
        key = self._keys.authenticate(token)
        if key is not None:
            return key
        network = network_of(address)
        wait_s = self._bad_tokens.wait_s(network)
        if wait_s > 0:
            raise ProblemError(
                "rate_limited", "too many requests with keys that are not valid", retry_s=wait_s
            )
        self._bad_tokens.record(network, matched=False)
        raise _unauthorized("this key is unknown, has expired or was revoked")

    def require(self, scope: Scope | None, key: ApiKey | None, address: str) -> None:
        """Let this request through, and count it.

        Args:
            scope: What it needs; None for any key.
            key: What :meth:`identify` returned.
            address: The client's IP address.

        Raises:
            ProblemError: ``rate_limited``; ``forbidden`` when the key has not the scope.
        """
        if self._rate is not None:
            who = f"address {network_of(address)}" if key is None else f"key {key.key_id}"
            wait_s = self._rate.take(who)
            if wait_s > 0:
                raise ProblemError("rate_limited", "too many requests in a minute", retry_s=wait_s)
        if key is not None and scope is not None and not key.allows(scope):
            raise ProblemError(
                "forbidden",
                f"this needs a key with scope {scope}; this one has {', '.join(sorted(key.scopes))}",
            )


def network_of(address: str) -> str:
    """What to count an address by: for IPv6 its /64, as one client there has 2^64 addresses.

    Args:
        address: An IP address, or whatever else a server calls its client.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
