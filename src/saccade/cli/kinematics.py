"""`saccade kinematics`: from videos with 3-D annotation to questions about motion, and marks for the answers."""

import cyclopts

COMMANDS = {
    "label": "saccade.cli.kinematics_label:label",
    "pseudo-label": "saccade.cli.kinematics_pseudo:pseudo_label",
    "questions": "saccade.cli.kinematics_label:questions",
    "inspect": "saccade.cli.kinematics_look:inspect",
    "overlay": "saccade.cli.kinematics_look:overlay",
    "variants": "saccade.cli.kinematics_bench:variants",
    "lmms-eval": "saccade.cli.kinematics_bench:lmms_eval",
    "score": "saccade.cli.kinematics_score:score",
}

app = cyclopts.App(
    name="kinematics",
    help="How far, how fast, which way, which of the two: labels from tracks, questions, and marks for answers.\n\n"
    "Example: saccade kinematics label nuscenes data/nuscenes --out labels",
)
# Their files import nothing heavy, so their own help can be read for the list.
for _name, _home in COMMANDS.items():
    app.command(_home, name=_name)
