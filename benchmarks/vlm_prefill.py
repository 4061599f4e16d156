"""What does a clip cost a language model, with 16 semantic tokens a frame and with LLaVA-OneVision's 196?

    python benchmarks/vlm_prefill.py [--frames 40] [--text-tokens 256] [--eyes stvit_deit_small] [--rounds 3]

Multiply-accumulates of the eyes with their projector and of the prefill are counted on tensors without numbers, with
the text model of LLaVA-OneVision-7B (the shape of Qwen2-7B) behind both; attention counts as whole squares. The cache
is what that model keeps in bfloat16. The prefill is then timed with a text model of the shape of Qwen2-0.5B, random
weights, float32, on one thread, both layouts in turn in one process: A B A B. Both get the same number of tokens of
text. Nothing here says how well either answers. Appends to benchmarks/results/vlm_prefill.csv.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from table import append
from torch.utils.flop_counter import FlopCounterMode

from saccade.engine.bench.machine import describe_machine
from saccade.engine.bench.timing import median_interval, ratio_interval
from saccade.tasks.answer.vlm import EyesConfig, register
from saccade.tasks.answer.vlm.eyes_model import SaccadeVLConfig

RESULTS = Path(__file__).parent / "results" / "vlm_prefill.csv"
QWEN2_7B: dict[str, Any] = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
}  # fmt: skip
QWEN2_05B: dict[str, Any] = {
    "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}  # fmt: skip


def counted(work: Any) -> tuple[int, Any]:
    """Return multiply-accumulates and what the work gave."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        found = work()
    return counter.get_total_flops() // 2, found


def look(layout: str, eyes: str, frames: int) -> tuple[int, int, str]:
    """Return the multiply-accumulates of eyes and projector, their tokens for a clip, and what they are."""
    text = transformers.Qwen2Config(**QWEN2_7B)
    if layout == "llava_onevision":
        with torch.device("meta"):
            config = transformers.LlavaOnevisionConfig(text_config=text)
            model: Any = transformers.LlavaOnevisionForConditionalGeneration(config)
        side = int(config.vision_config.image_size)
        kind, given = f"SigLIP-so400m/14 at {side}", (torch.empty(1, frames, 3, side, side, device="meta"),)
    else:
        config = SaccadeVLConfig(text_config=text, eyes=EyesConfig(encoder=eyes).to_dict())
        with torch.device("meta"):
            model = register()(config)
        model.eyes.to("meta")
        side = model.eyes.config.img_size
        clip = torch.empty(1, frames, 3, side, side, device="meta")
        kind, given = f"{eyes} at {side}", (clip, torch.empty(1, frames, device="meta"))
    macs, seen = counted(lambda: model.eval().get_video_features(*given))
    seen = seen.pooler_output if layout == "llava_onevision" else seen.flatten(1, 2)
    return macs, int(seen.shape[1]), kind


def prefill(length: int) -> tuple[int, int]:
    """Return multiply-accumulates of a prefill of the large text model, and bytes of its cache."""
    with torch.device("meta"):
        config = transformers.Qwen2Config(**QWEN2_7B, attn_implementation="eager")
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
        given = torch.empty(1, length, QWEN2_7B["hidden_size"], dtype=torch.bfloat16)
    macs, out = counted(lambda: model(inputs_embeds=given, logits_to_keep=1, use_cache=True))
    kept = sum(
        part.numel() * part.element_size()
        for layer in out.past_key_values.layers
        for part in (layer.keys, layer.values)
    )
    return macs, kept


def timed(lengths: dict[str, int], rounds: int) -> dict[str, list[float]]:
    """Time the prefill of the small text model, in turn; processor seconds of every round."""
    model: Any = transformers.AutoModelForCausalLM.from_config(transformers.Qwen2Config(**QWEN2_05B)).eval()
    given = {name: torch.randn(1, length, QWEN2_05B["hidden_size"]) for name, length in lengths.items()}
    found: dict[str, list[float]] = {name: [] for name in lengths}
    with torch.no_grad():
        model(inputs_embeds=given[min(lengths, key=lengths.__getitem__)], logits_to_keep=1)  # warm-up
        for number in range(rounds):
            for name, embeds in given.items():
                start = time.process_time()
                model(inputs_embeds=embeds, logits_to_keep=1, use_cache=True)
                found[name].append(time.process_time() - start)
            print(number, {name: round(values[-1], 2) for name, values in found.items()}, flush=True)
    return found


def main() -> None:
    """Count, time, and append to the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument(
        "--text-tokens", type=int, default=256, help="the question and the seconds of the frames"
    )
    parser.add_argument("--eyes", default="stvit_deit_small")
    parser.add_argument("--rounds", type=int, default=3, help="0: count only")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    machine, load = describe_machine(), os.getloadavg()[0]
    facts = {name: look(name, options.eyes, options.frames) for name in ("llava_onevision", "saccade_vl")}
    lengths = {name: tokens + options.text_tokens for name, (_, tokens, _) in facts.items()}
    times = timed(lengths, options.rounds) if options.rounds else {}
    rows = []
    for name, (vision, tokens, kind) in facts.items():
        macs, kept = prefill(lengths[name])
        row = {
            "date": machine["date"], "commit": machine["commit"], "cpu": machine["cpu"],
            "torch": machine["versions"]["torch"], "transformers": transformers.__version__,
            "threads": torch.get_num_threads(), "load": f"{load:.1f}", "layout": name, "eyes": kind,
            "frames": options.frames, "visual_tokens": tokens, "text_tokens": options.text_tokens,
            "vision_gmacs": f"{vision / 1e9:.1f}", "prefill_gmacs_qwen2_7b": f"{macs / 1e9:.1f}",
            "cache_mib_qwen2_7b_bf16": f"{kept / 2**20:.1f}",
        }  # fmt: skip
        if times:
            median, low, high = median_interval(times[name])
            ratio = ratio_interval(times["llava_onevision"], times[name])
            row |= {
                "prefill_cpu_s_qwen2_05b": f"{median:.2f}", "low_s": f"{low:.2f}", "high_s": f"{high:.2f}",
                "rounds": options.rounds, "llava_over_this": f"{ratio[0]:.2f}",
                "ratio_low": f"{ratio[1]:.2f}", "ratio_high": f"{ratio[2]:.2f}",
            }  # fmt: skip
        rows.append(row)
        print(row, flush=True)
    append(options.out, rows)


if __name__ == "__main__":
    main()
