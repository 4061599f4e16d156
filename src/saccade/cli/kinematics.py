"""`saccade kinematics`: from videos with 3-D annotation to questions about motion, and scores for the answers."""

import cyclopts

from saccade.cli import (
    kinematics_bench,
    kinematics_label,
    kinematics_look,
    kinematics_pseudo,
    kinematics_questions,
    kinematics_score,
)

# Their files import nothing heavy until they are called, and only what is imported shows its sentence in the list.
COMMANDS = {
    "label": kinematics_label.label,
    "pseudo-label": kinematics_pseudo.pseudo_label,
    "questions": kinematics_questions.questions,
    "inspect": kinematics_look.inspect,
    "overlay": kinematics_look.overlay,
    "variants": kinematics_bench.variants,
    "lmms-eval": kinematics_bench.lmms_eval,
    "score": kinematics_score.score,
}

app = cyclopts.App(
    name="kinematics",
    help="How far, how fast, which way, which of the two: labels from tracks, questions, and scores for answers.\n\n"
    "Example: saccade kinematics label nuscenes data/nuscenes --out labels",
)
for _name, _command in COMMANDS.items():
    app.command(_command, name=_name)
