"""`saccade radar`: from a scan to a sharp image. Which sub-command lives where; each is imported when called."""

import cyclopts

COMMANDS = {
    "simulate": ("saccade.cli.radar_scan:simulate", "Scan a made-up scene and write the echoes."),
    "import": ("saccade.cli.radar_import:import_", "Make a scan of recorded data."),
    "image": ("saccade.cli.radar_scan:image", "Form an image of a scan."),
    "enhance": ("saccade.cli.radar_sharpen:enhance", "Sharpen an image with a trained network."),
    "dataset": ("saccade.cli.radar_sharpen:dataset", "Make training pairs."),
    "train": ("saccade.cli.radar_sharpen:train", "Train a network on pairs."),
    "eval": ("saccade.cli.radar_sharpen:evaluate", "Mark a network on pairs, beside what needs no network."),
}

app = cyclopts.App(
    name="radar",
    help="From a hand-held millimetre-wave scan to a sharp image.\n\n"
    "Example: saccade radar simulate --geometry freehand --target star+points --out scan.h5",
)
for _name, (_home, _line) in COMMANDS.items():
    app.command(_home, name=_name, help=_line)
