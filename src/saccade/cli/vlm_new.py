"""`saccade vlm new`: a base of our own eyes and any text model."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def new(
    *,
    out: Path,
    eyes: str = "stvit_deit_small",
    eyes_weights: str = "",
    text: str = "",
    words: Path | None = None,
    size: int | None = None,
    tokens: int | None = None,
    boxes: bool = False,
    width: int | None = None,
    layers: int | None = None,
    mixer: Annotated[str | None, Hidden] = None,
    depth: Annotated[int | None, Hidden] = None,
    stage: Annotated[int | None, Hidden] = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Put a network of pictures before a text model: a base for `saccade vlm tune --vision` with few visual tokens.

    Every frame becomes --tokens tokens (16 by default: 40 frames are 640, where LLaVA-OneVision has 7841). The text
    model is one of transformers with its weights, or a small one with random weights. Less common: --mixer time,
    joint or none, --depth of the mixer, --stage of the network's map.

    Example: saccade vlm new --eyes stvit_deit_small --text HuggingFaceTB/SmolLM2-135M-Instruct --out base

    Args:
        out: Folder to make, as transformers saves models.
        eyes: Network of pictures by name, or a file of eyes that were trained.
        eyes_weights: Run of `saccade train`, or a weights file, for that network.
        text: Folder or hub id of a causal language model.
        words: In place of --text, questions such as will be asked: a tokenizer is learned from them for a text model
            with random weights.
        size: Side of the frames in pixels, 224 when left out.
        tokens: Visual tokens of a frame, a square number.
        boxes: Red and blue boxes come in filled, as channels of their own, and are not drawn.
        width: Channels of a text model with random weights, 256 when left out.
        layers: Its layers, 4 when left out.
        mixer: Which tokens look at other frames: time (the same token), joint (all) or none.
        depth: Blocks of the mixer.
        stage: Of networks without semantic tokens, which of their maps; -1 is the last.
        seed: Of what begins at random.
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError
    from saccade.vlm import EyesConfig, TextPlan, new_base

    given = {"img_size": size, "tokens": tokens, "mixer": mixer, "depth": depth, "stage": stage}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if mixer == "none":
        values.setdefault("depth", 0)
    if boxes:
        values["in_chans"] = 5
    seen: EyesConfig | Path
    if eyes.endswith(".safetensors"):
        if values:
            raise ConfigError(
                f"{eyes} says of what the eyes are made; leave out --size, --tokens, --boxes, --mixer, --depth and "
                "--stage"
            )
        seen = Path(eyes)
    else:
        seen = EyesConfig(encoder=eyes, **values)
    sizes = {name: value for name, value in (("width", width), ("layers", layers)) if value is not None}
    facts = new_base(
        out, eyes=seen, text=text, words=_texts_of(words) if words else (), eyes_weights=eyes_weights, seed=seed,
        plan=TextPlan(**sizes) if sizes else None,
    )  # fmt: skip
    show.result(facts, as_json=json)


def _texts_of(path: Path) -> list[str]:
    """Read what is asked and answered in a file of questions."""
    from saccade.kinematics.records import read_questions

    return [f"{question.question} {question.answer}" for question in read_questions(path)]
