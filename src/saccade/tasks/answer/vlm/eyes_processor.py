"""What turns text and frames into inputs of `saccade.tasks.answer.vlm.eyes_model`: a tokenizer and a video processor.

The video token of a prompt becomes, frame after frame, its second and its visual tokens: "0.5s" and then N tokens. So
the text model reads the times, and the eyes are given them as numbers (`frame_seconds`).
"""

from collections.abc import Sequence
from typing import Any

import torch

from saccade.errors import DataError
from saccade.extras import require
from saccade.kinematics.forms import say_time

transformers: Any = require("transformers", "vlm", "for vision-language models")
BaseVideoProcessor: Any = require("transformers.video_processing_utils", "vlm", "for them").BaseVideoProcessor

VIDEO_TOKEN = "<|video|>"
"""Added to every tokenizer."""
FLATTEN = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set said = namespace(text='') -%}
{%- for part in message['content'] -%}
{%- set said.text = said.text + ('<|video|>\n' if part['type'] == 'video' else part['text']) -%}
{%- endfor -%}
{%- set flat.messages = flat.messages + [{'role': message['role'], 'content': said.text}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""
"""Goes before the chat template of a text model, which knows of texts only."""
PLAIN = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}{{ 'Assistant: ' + message['content'] + eos_token + '\n' }}
{%- else -%}{{ message['role'] | capitalize + ': ' + message['content'] + '\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant: ' }}{%- endif -%}
"""
"""Of text models that come without a chat template."""


class SaccadeVLVideoProcessor(BaseVideoProcessor):
    """Resizes frames to a square, normalises them, and passes on when they were taken.

    Frames are never sampled; `video_metadata` has to name the second of each.
    """

    resample = 3
    """Bicubic."""
    image_mean = (0.485, 0.456, 0.406)
    image_std = (0.229, 0.224, 0.225)
    size = {"height": 224, "width": 224}  # noqa: RUF012
    rescale_factor = 1 / 255
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = False
    model_input_names = ["pixel_values_videos", "frame_seconds"]  # noqa: RUF012

    def preprocess(self, videos: Any, **kwargs: Any) -> Any:
        """Make pixel_values_videos (clips, T, 3, height, width) and frame_seconds (clips, T).

        Raises:
            DataError: Frames whose seconds are not told.
        """
        wanted = bool(kwargs.pop("return_metadata", False))
        found = super().preprocess(videos, return_metadata=True, **kwargs)
        seconds = [_seconds_of(metadata) for metadata in found["video_metadata"]]
        if len({len(times) for times in seconds}) == 1:
            found["frame_seconds"] = torch.tensor(seconds, dtype=torch.float32)
        else:
            found["frame_seconds"] = [torch.tensor(times, dtype=torch.float32) for times in seconds]
        if not wanted:
            del found["video_metadata"]
        return found


def _seconds_of(metadata: Any) -> list[float]:
    if metadata.fps is None or metadata.frames_indices is None:
        raise DataError(
            "frames came without their seconds; expected video_metadata with fps and frames_indices for every clip"
        )
    return [float(index) / metadata.fps for index in metadata.frames_indices]


class SaccadeVLProcessor(transformers.ProcessorMixin):
    """Tokenizer and video processor.

    Args:
        tokenizer: Of the text model, with the video token added.
        video_processor: For frames.
        chat_template: For conversations.
        tokens_per_frame: Visual tokens N.
        boxes: Colours of the boxes that the eyes take as channels behind the picture's own; empty: they are drawn.
        video_token: Stands for a clip in a prompt, and for each of its visual tokens in the text model.
    """

    def __init__(
        self,
        tokenizer: Any = None,
        video_processor: Any = None,
        chat_template: str | None = None,
        tokens_per_frame: int = 16,
        boxes: Sequence[str] = (),
        video_token: str = VIDEO_TOKEN,
    ) -> None:
        self.tokens_per_frame, self.boxes = tokens_per_frame, list(boxes)
        self.video_token = video_token
        self.video_token_id = tokenizer.convert_tokens_to_ids(video_token)
        super().__init__(tokenizer, video_processor, chat_template=chat_template)

    def replace_video_token(self, video_inputs: dict[str, Any], video_idx: int, **kwargs: Any) -> str:
        """Write out a clip: the second of every frame and the places of its tokens."""
        del kwargs
        places = self.video_token * self.tokens_per_frame
        seconds = video_inputs["frame_seconds"][video_idx].tolist()
        return "".join(f"{say_time(round(second, 3))}s{places}" for second in seconds)


def chat_template_of(tokenizer: Any) -> str:
    """Return the chat template for conversations with clips: the text model's own, or a plain one."""
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):
        own = own.get("default")
    return FLATTEN + (own or PLAIN)
