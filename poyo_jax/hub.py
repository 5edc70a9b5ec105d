"""Models on the Hugging Face hub."""

import re

from etils import epath

from poyo_jax.errors import CheckpointError, MissingDependencyError
from poyo_jax.files import find_address

SCHEME = "hf://"


def local_folder(path: epath.PathLike, *, local_files_only: bool = False) -> epath.PathLike:
    """The folder of a model: `path` itself, or the local copy of hf://organisation/name@revision.

    Missing files are downloaded, without optimiser state, unless `local_files_only`. Raises
    CheckpointError for an address that is not valid and for a download that fails,
    MissingDependencyError without huggingface_hub.
    """
    address = find_address(path)
    if address is None or not address.startswith(SCHEME):
        return path
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if match is None:
        raise CheckpointError(
            f"{address} is no address of a model. Write hf://organisation/name, or"
            " hf://organisation/name@revision for a branch, tag or commit."
        )
    repository, revision = match.groups()
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingDependencyError(
            f"{address} needs huggingface_hub, which cannot be imported ({error}); run: pip install"
            " poyo_jax[hub]"
        ) from error
    try:
        return snapshot_download(
            repository,
            revision=revision,
            local_files_only=local_files_only,
            ignore_patterns=["*/opt_state/*"],
        )
    except Exception as error:  # the package and what it stands on raise many kinds
        where = "is not on this computer" if local_files_only else "cannot be downloaded"
        raise CheckpointError(
            f"{address} {where} ({type(error).__name__}:"
            f" {(str(error).splitlines() or [''])[0][:200]}). Check its name, the network, and for"
            " a private model that you are logged in (hf auth login)."
        ) from error
