"""Published weights by name, from the Hugging Face hub."""

from pathlib import Path

from torch import nn

from saccade.errors import WeightsError
from saccade.hub import hub_answers
from saccade.weights.cards import FACTS

# Model name -> the weights that `pretrained=True` loads.
PUBLISHED = {
    name: facts.weights[0] for name, facts in FACTS.items() if facts.weights and facts.weights[0].hub_id
}


def fetch(hub_id: str, filename: str = "model.safetensors", *, cached: bool = False) -> Path:
    """Fetch a weights file from the hub, or find it in the local cache; with `cached` only there.

    Raises:
        WeightsError: Not there, or no connection; the sentence names the id and the way around.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(hub_id, filename, local_files_only=cached or not hub_answers()))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if cached:
            raise WeightsError(
                f"{hub_id} stands in a file and is not in the hub's cache here; hub ids in files are not fetched "
                "without your word, so name it yourself with --weights, or add --allow-address"
            ) from None
        raise WeightsError(
            f"{hub_id}: the hub cannot be reached or has no {filename} under this id ({type(error).__name__}); "
            f"fetch it where there is a connection and pass the file with --weights"
        ) from None


def load_published(model: nn.Module, name: str) -> nn.Module:
    """Load the published ImageNet-1K weights into a network of `create_model`.

    A head with another number of classes keeps its fresh weights.

    Raises:
        WeightsError: No published weights for the name, or they cannot be fetched.
    """
    from saccade.weights.store import load_weights

    if name not in PUBLISHED:
        raise WeightsError(f"no published weights for {name}; train it, or pass a file with load_weights")
    if getattr(model, "out_indices", None) is not None and name.startswith("stvit_r"):
        raise WeightsError(
            f"{name}: the published classifier starts a dense backbone only, which then has to be trained; "
            "fetch it and pass it to load_weights, or pass a detector's checkpoint"
        )
    if getattr(getattr(model, "config", None), "distilled", False) and not name.endswith("_dist"):
        raise WeightsError(f"no published distilled weights for {name}; build it without distilled=True")
    path = fetch(PUBLISHED[name].hub_id, PUBLISHED[name].file)
    wanted = int(getattr(model, "num_classes", 1000))
    if wanted in (0, 1000):
        return load_weights(model, path)
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*loaded in part.*")
        return load_weights(model, path, strict=False)
