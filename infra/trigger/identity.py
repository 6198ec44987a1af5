"""Who calls: the OIDC token that Eventarc and Cloud Scheduler send, checked once more after Cloud Run's check."""

from collections.abc import Mapping
from typing import Any

import jwt

from infra.trigger.settings import Settings

CERTIFICATES = "https://www.googleapis.com/oauth2/v3/certs"
_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
_CLAIMS = ("aud", "email", "exp", "iat", "iss")
_ALGORITHM = "RS256"
_MAX_TOKEN_LENGTH = 4096
_CLOCK_SKEW_S = 30
_KEYS_TIMEOUT_S = 5
# Google announces its keys days before it signs with them.
_KEYS_LIFESPAN_S = 3600
# What Cloud Run puts in the place of a signature that it has checked, so that nobody can use the token again.
_REMOVED = ".SIGNATURE_REMOVED_BY_GOOGLE"


class UnauthenticatedError(Exception):
    """There is no token, or it does not hold; the message holds no part of it."""


class StrangerError(Exception):
    """The token holds, and is another account's."""


class NoKeysError(Exception):
    """Google's keys are not to be had: nothing can be said of a token."""


class Identity:
    """Tells whether a request comes from the account that may call.

    Args:
        settings: with that account, and with what tokens may be meant for.
        certificates: address of the issuer's keys.
    """

    def __init__(self, settings: Settings, *, certificates: str = CERTIFICATES) -> None:
        self._settings = settings
        self._keys = jwt.PyJWKClient(certificates, lifespan=_KEYS_LIFESPAN_S, timeout=_KEYS_TIMEOUT_S)

    def check(self, headers: Mapping[str, str]) -> None:
        """Returns if the caller is the one; fetches the issuer's keys if they are not at hand.

        Raises:
            UnauthenticatedError: no token, or one that is forged, expired, of another issuer or for another audience.
            StrangerError: another account's.
            NoKeysError: the issuer's keys are not to be had.
        """
        claims = self._claims(_token(headers))
        audience, email = claims["aud"], claims["email"]
        if not isinstance(audience, str) or not self._settings.audience.fullmatch(audience):
            raise UnauthenticatedError("the token is meant for another service")
        if email != self._settings.invoker or claims.get("email_verified") is not True:
            raise StrangerError("the token is another account's")

    def _claims(self, token: str) -> dict[str, Any]:
        is_removed = self._settings.accepts_removed_signatures and token.endswith(_REMOVED)
        try:
            return jwt.decode(
                token,
                "" if is_removed else self._key(token),
                algorithms=[_ALGORITHM],
                issuer=_ISSUERS,
                leeway=_CLOCK_SKEW_S,
                options={
                    "verify_signature": not is_removed,
                    # Without a signature the library would look at none of these.
                    "verify_exp": True,
                    "verify_iat": True,
                    "verify_nbf": True,
                    "verify_iss": True,
                    "verify_aud": False,
                    "require": list(_CLAIMS),
                },
            )
        except jwt.PyJWTError as problem:
            raise UnauthenticatedError(f"the token does not hold: {type(problem).__name__}") from problem

    def _key(self, token: str) -> jwt.PyJWK:
        try:
            return self._keys.get_signing_key_from_jwt(token)
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, OSError, ValueError) as problem:
            raise NoKeysError(f"no keys from {self._keys.uri}: {problem}") from problem


def _token(headers: Mapping[str, str]) -> str:
    # Where there are both, Cloud Run checks the first only; the other may be anybody's.
    header = headers.get("X-Serverless-Authorization") or headers.get("Authorization") or ""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("a bearer token is needed")
    if len(token) > _MAX_TOKEN_LENGTH:
        raise UnauthenticatedError(f"the token is longer than {_MAX_TOKEN_LENGTH} characters")
    return token
