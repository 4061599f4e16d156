"""`saccade models`: the list of networks, and all that is known about one."""

import sys
from typing import Any

import cyclopts

from saccade.cli import show

app = cyclopts.App(name="models")


@app.default
def list_models(pattern: str = "*", /, *, json: bool = False) -> None:
    """List the models with their cost and published accuracy.

    Example: saccade models 'shvit*'

    Top-1 is ImageNet-1K validation accuracy in per cent as the authors published it for the weights that
    `weights fetch` brings. MACs are multiply-accumulates of one picture at the given size.

    Args:
        pattern: Shell pattern; with the prefix timm/ it searches timm's models instead (names only).
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError, did_you_mean
    from saccade.zoo.facts import FACTS

    if pattern.startswith("timm/"):
        import timm

        found: list[dict[str, Any]] = [
            {"model": f"timm/{name}"} for name in timm.list_models(pattern.removeprefix("timm/"))
        ]
        known = [f"timm/{name}" for name in timm.list_models()]
    else:
        import fnmatch

        known = sorted(FACTS)
        found = [
            {
                "model": name,
                "params_m": round(FACTS[name].params / 1e6, 2),
                "macs_m": round(FACTS[name].macs / 1e6, 1),
                "size": FACTS[name].size,
                "top1_published": FACTS[name].weights[0].top1 if FACTS[name].weights else "",
                "licence": FACTS[name].licence,
            }
            for name in fnmatch.filter(known, pattern)
        ]
    if not found:
        raise ConfigError(f"no model matches {pattern!r}{did_you_mean(pattern, known)}")
    show.rows(found, as_json=json, title="Models")


@app.command(name="show")
def show_model(name: str, /, *, json: bool = False) -> None:
    """Show one model: its parts, cost, published numbers, origin and licence.

    Example: saccade models show efficientvim_m1

    Args:
        name: A model name of `saccade models`, or timm/NAME.
        json: Print one JSON object.
    """
    import dataclasses

    import torch

    from saccade.nn.outline import outline
    from saccade.zoo import registry
    from saccade.zoo.facts import FACTS

    with torch.device("meta"):
        model = registry.create_model(name).eval()
        size = int(getattr(model, "default_size", 224))
        parts = outline(model, torch.empty(registry.input_shape(name, model)))
    facts = FACTS.get(name)
    about: dict[str, Any] = dataclasses.asdict(facts) if facts else _of_timm(name, model)
    about = {"model": name, "size": size, "params": sum(part.params for part in parts)} | about
    if json:
        show.result({**about, "parts": [dataclasses.asdict(part) for part in parts]}, as_json=True)
        return
    del about["weights"]
    for setting, rate in about.pop("speeds", {}).items():
        about[f"images/s published, {setting}"] = rate
    show.result(about, as_json=False)
    if facts and facts.weights:
        sys.stdout.write("\n")
        show.rows(
            [_published_row(facts, weights) for weights in facts.weights], as_json=False, title="Published"
        )
    sys.stdout.write("\n")
    show.rows(
        [
            {
                "part": part.name,
                "kind": part.kind,
                "params": part.params,
                "output": "x".join(str(side) for side in part.output[1:]),
            }
            for part in parts
        ],
        as_json=False,
        title="Parts",
    )


def _of_timm(name: str, model: Any) -> dict[str, Any]:
    """Gather what timm records about one of its networks."""
    record: Any = getattr(model, "pretrained_cfg", None) or {}
    return {
        "paper": record.get("paper_name") or "",
        "arxiv": (record.get("paper_ids") or "").removeprefix("arXiv:"),
        "code": "github.com/huggingface/pytorch-image-models (Apache-2.0)",
        "licence": f"{record.get('license') or 'unknown, see the hub page'} (of the weights, as timm records it)",
        "weights": [{"hub_id": record.get("hf_hub_id") or ""}],
    }


def _published_row(facts: Any, weights: Any) -> dict[str, Any]:
    """Lay out one published training as a table row."""
    return {
        "weights": f"{facts.model}.{weights.recipe}",
        "size": weights.size or facts.size,
        "epochs": weights.epochs,
        "top1": weights.top1,
        "top5": weights.top5,
        "hub_id": weights.hub_id or "(weights not published)",
    }
