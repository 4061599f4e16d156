"""`saccade vlm`: tune vision-language models on questions about motion, ask them, and mark their answers."""

import cyclopts

from saccade.cli import vlm_ask, vlm_new, vlm_score, vlm_tune

# Their files import nothing heavy until they are called, and only what is imported shows its sentence in the list.
COMMANDS = {
    "new": vlm_new.new,
    "tune": vlm_tune.tune,
    "ask": vlm_ask.ask,
    "score": vlm_score.score,
}

app = cyclopts.App(
    name="vlm",
    help="Vision-language models that answer questions about motion: tune, ask, score.\n\n"
    "Example: saccade vlm tune --base llava-hf/llava-onevision-qwen2-7b-ov-hf --data stkit/questions.jsonl --lora 64",
)
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name)
