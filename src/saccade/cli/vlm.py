"""`saccade vlm`: tune vision-language models on questions about motion, ask them, and mark their answers."""

import cyclopts

COMMANDS = {
    "new": "saccade.cli.vlm_new:new",
    "tune": "saccade.cli.vlm_tune:tune",
    "ask": "saccade.cli.vlm_ask:ask",
    "score": "saccade.cli.vlm_score:score",
    "demo": "saccade.cli.vlm_demo:demo",
}

app = cyclopts.App(
    name="vlm",
    help="Vision-language models that answer questions about motion: tune, ask, score.\n\n"
    "Example: saccade vlm tune --base llava-hf/llava-onevision-qwen2-7b-ov-hf --data stkit/questions.jsonl --lora 64",
)
# Their files import nothing heavy, so their own help can be read for the list.
for _name, _home in COMMANDS.items():
    app.command(_home, name=_name)
