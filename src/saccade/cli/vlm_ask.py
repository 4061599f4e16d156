"""`saccade vlm ask`: one question about one clip."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def ask(
    clip: Path,
    question: str,
    /,
    *,
    model: str = "",
    box: tuple[str, ...] = (),
    size: int = 0,
    device: str = "auto",
    threads: Annotated[int, Hidden] = 0,
    tokens: int = 64,
    endpoint: str = "",
    endpoint_model: str = "",
    trust_remote_code: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    json: bool = False,
) -> None:
    """Ask a model about a clip; things are pointed out by coloured boxes.

    Frames are taken every half second, at most 40, and the model is told when. A box is drawn in the frame nearest to
    its second; between two boxes of one colour it moves along a straight line. Tuned models expect a box wherever the
    thing is seen, so give its way by several.

    Example: saccade vlm ask clip.mp4 "How far does the red one go?" --model runs/vlm --box 120,80,180,140@0.0

    Args:
        clip: Video, or folder of pictures half a second apart.
        question: What to ask.
        model: Run of `saccade vlm tune`, or a base: folder or hub id.
        box: [colour:]x0,y0,x1,y1@seconds in pixels of the clip; red when no colour is named; again for more.
        size: Longest side of the frames before the model's own processor has its say; as it was tuned when 0.
        device: cpu, cuda or mps; the best there is when left out.
        threads: CPU threads.
        tokens: Longest answer.
        endpoint: Address of a server with OpenAI's chat completions in place of --model; a key is read from
            SACCADE_API_KEY or OPENAI_API_KEY.
        endpoint_model: Its name for the model.
        trust_remote_code: Run code that comes with a base, a tuned run's too.
        allow_address: Fetch a base that a tuned run names by its hub id.
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError
    from saccade.vlm import Endpoint, Exchange, clip_frames, open_answerer, parse_box, spread_boxes

    if bool(model) == bool(endpoint):
        raise ConfigError("say what to ask: --model RUN or --endpoint URL, and not both")
    given = [parse_box(text) for text in box]
    frames, times = clip_frames(clip)
    boxes = spread_boxes(given, times, frames[0].size) if given else []
    for colour in dict.fromkeys(entry[0] for entry in given):
        count = sum(colour in drawn for drawn in boxes)
        if count < len(frames):
            show.note(
                f"the {colour} box is drawn in {count} of {len(frames)} frames; give its way by more boxes"
            )
    exchange = Exchange([(question, "")], frames, times, boxes, name=str(clip))
    if endpoint:
        answers = Endpoint(endpoint, endpoint_model, size=size or 448, max_new_tokens=tokens)
    else:
        import torch

        from saccade.trust import trusting

        if threads:
            torch.set_num_threads(threads)
        with trusting(code=trust_remote_code, address=allow_address):
            answers = open_answerer(model, device=device, size=size, max_new_tokens=tokens)
    text = answers.answer([exchange])[0]
    if json:
        show.result(
            {"answer": text, "model": answers.name, "frame_times_s": times, "question": question},
            as_json=True,
        )
        return
    if not text:
        show.note("the answer is empty: the model ended it at once")
    show.text(text)
