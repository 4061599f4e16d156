"""Published weights by name, from the Hugging Face hub."""

from torch import nn

from saccade.errors import WeightsError
from saccade.hub import fetch_file
from saccade.zoo.facts import FACTS

# Model name -> the weights that `pretrained=True` loads.
PUBLISHED = {
    name: facts.weights[0] for name, facts in FACTS.items() if facts.weights and facts.weights[0].hub_id
}


def load_published(model: nn.Module, name: str) -> nn.Module:
    """Load the published ImageNet-1K weights into a network of `create_model`.

    A head with another number of classes keeps its fresh weights.

    Raises:
        WeightsError: No published weights for the name, or they cannot be fetched.
    """
    from saccade.zoo.loading import load_weights

    if name not in PUBLISHED:
        raise WeightsError(f"no published weights for {name}; train it, or pass a file with load_weights")
    if getattr(model, "out_indices", None) is not None and name.startswith("stvit_r"):
        raise WeightsError(
            f"{name}: the published classifier starts a dense backbone only, which then has to be trained; "
            "fetch it and pass it to load_weights, or pass a detector's checkpoint"
        )
    if getattr(getattr(model, "config", None), "distilled", False) and not name.endswith("_dist"):
        raise WeightsError(f"no published distilled weights for {name}; build it without distilled=True")
    path = fetch_file(PUBLISHED[name].hub_id, PUBLISHED[name].file)
    wanted = int(getattr(model, "num_classes", 1000))
    if wanted in (0, 1000):
        return load_weights(model, path)
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*loaded in part.*")
        return load_weights(model, path, strict=False)
