"""The versions of one model in Vertex AI's Model Registry: uploaded once, told apart by aliases."""

from dataclasses import dataclass

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1 import Model

from components.google_calls import BEGIN, CALL, ServiceError, done_once
from components.vertex_push.settings import Target

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
# What Vertex AI takes when a model is named without a version.
_DEFAULT = "default"
_FINGERPRINT = "fingerprint: "


@dataclass(frozen=True)
class Change:
    """What became of the champion.

    Attributes:
        champion: version that is it now.
        previous: version that was it before; None if there was none.
        is_new: whether anything was changed.
    """

    champion: str
    previous: str | None
    is_new: bool


class Registry:
    """One model and its versions."""

    def __init__(self, target: Target):
        """Makes the client; it is now that credentials are looked for.

        Args:
            target: with `registry.model`.
        """
        self._target = target
        self._models = aiplatform_v1.ModelServiceClient(client_options=ClientOptions(api_endpoint=target.host))

    def versions(self) -> list[Model]:
        """Lists the versions; none if the model is not there."""
        try:
            return list(self._models.list_model_versions(name=self._target.model_name, **CALL))
        except exceptions.NotFound:
            return []

    def version(self, wanted: str) -> Model:
        """Finds a version.

        Args:
            wanted: its number or alias.

        Raises:
            ServiceError: there is no such version.
        """
        return self._named(self.versions(), wanted)

    def upload(self, wanted: Model, *, fingerprint: str) -> tuple[Model, bool]:
        """Registers a model as the candidate, unless a version of this fingerprint is there.

        The SDK's `Model.upload` is not called: it looks for nothing, so a lost answer makes a second version.

        Args:
            wanted: the model; fingerprint, aliases and encryption are put in.
            fingerprint: of its files; it stands in the version's description, which no other version shares.

        Returns:
            The version, and whether this call has made it.
        """
        wanted.version_description = f"{wanted.version_description}\n{_FINGERPRINT}{fingerprint}".lstrip("\n")
        wanted.version_aliases = [CANDIDATE]
        if self._target.kms_key:
            wanted.encryption_spec.kms_key_name = self._target.kms_key

        def begin():
            request = aiplatform_v1.UploadModelRequest(parent=self._target.place, model=wanted)
            if self.versions():
                request.parent_model = self._target.model_name
            else:
                request.model_id = self._target.registry.model
            return self._models.upload_model(request=request, **BEGIN)

        return done_once(self._models, self._target.model_name, find=lambda: self._find(fingerprint), begin=begin)

    def promote(self, wanted: str) -> Change:
        """Makes a version the champion; the champion so far is remembered as the previous one.

        Args:
            wanted: number or alias of the version.

        Raises:
            ServiceError: there is no such version.
        """
        versions = self.versions()
        new = self._named(versions, wanted)
        old = _holder(versions, CHAMPION)
        if old is not None and old.version_id == new.version_id:
            previous = _holder(versions, PREVIOUS)
            return Change(new.version_id, previous.version_id if previous else None, is_new=False)
        if old is not None:
            self._give(old, PREVIOUS)
        self._give(new, CHAMPION, _DEFAULT)
        return Change(new.version_id, old.version_id if old else None, is_new=True)

    def roll_back(self) -> Change:
        """Makes the previous champion the champion again; once more, and both change places again.

        Raises:
            ServiceError: there is no previous one.
        """
        versions = self.versions()
        old, new = _holder(versions, CHAMPION), _holder(versions, PREVIOUS)
        if new is None or old is None or new.version_id == old.version_id:
            raise ServiceError(
                f"{self._target.model_name} has no version {PREVIOUS} beside its {CHAMPION}: nothing was promoted "
                "over it; promote another by its number (VERSION=)"
            )
        # In this order a kill in between leaves the rollback done; in the other it would lose what to go back to.
        self._give(new, CHAMPION, _DEFAULT)
        self._give(old, PREVIOUS)
        return Change(new.version_id, old.version_id, is_new=True)

    def aliases(self) -> dict[str, str]:
        """The number of the version that each alias stands at."""
        return {alias: version.version_id for version in self.versions() for alias in version.version_aliases}

    def _named(self, versions: list[Model], wanted: str) -> Model:
        for version in versions:
            if wanted in (version.version_id, *version.version_aliases):
                return version
        known = ", ".join(f"{version.version_id} ({', '.join(version.version_aliases)})" for version in versions)
        raise ServiceError(
            f"{self._target.model_name} has no version {wanted}; it has {known or 'none'}: give one of these"
        )

    def _find(self, fingerprint: str) -> Model | None:
        line = f"{_FINGERPRINT}{fingerprint}"
        return next((model for model in self.versions() if line in model.version_description.splitlines()), None)

    def _give(self, version: Model, *aliases: str) -> None:
        """Gives a version aliases, which Vertex AI takes away from those that had them."""
        name = f"{self._target.model_name}@{version.version_id}"
        self._models.merge_version_aliases(name=name, version_aliases=list(aliases), **CALL)


def _holder(versions: list[Model], alias: str) -> Model | None:
    return next((version for version in versions if alias in version.version_aliases), None)
