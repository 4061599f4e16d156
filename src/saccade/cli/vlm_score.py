"""`saccade vlm score`: a benchmark answered and marked, beside its baselines."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from saccade.cli import show

Hidden = Parameter(show=False)


def score(
    *,
    bench: Path,
    model: str = "",
    labels: str = "",
    pictures: Annotated[str, Hidden] = "",
    train: Path | None = None,
    also: tuple[str, ...] = (),
    out: Path | None = None,
    size: int = 0,
    device: str = "auto",
    threads: Annotated[int, Hidden] = 0,
    batch: int = 4,
    tokens: Annotated[int, Hidden] = 64,
    seed: Annotated[int, Hidden] = 0,
    endpoint: str = "",
    endpoint_model: Annotated[str, Hidden] = "",
    restart: Annotated[bool, Hidden] = False,
    trust_remote_code: Annotated[bool, Hidden] = False,
    allow_address: Annotated[bool, Hidden] = False,
    json: bool = False,
) -> None:
    """Let a model answer a benchmark and mark it, always beside what it has to beat.

    Those are the best constant or majority of the training questions, the same model with blank frames, the base
    before tuning and, for a model that takes boxes as channels, its boxes alone and its pixels alone. A run that was
    stopped goes on where it was. Less common: --pictures FOLDER, --tokens, --threads, --seed, --endpoint-model NAME,
    --restart, --trust-remote-code.

    Example: saccade vlm score --model runs/vlm --bench bench.jsonl --labels labels

    Args:
        bench: Questions from `saccade kinematics questions`.
        model: Run of `saccade vlm tune`, or a base: folder or hub id.
        labels: Tracks of the benchmark, so that boxes are drawn at the model's own resolution.
        pictures: Folder that the tracks' pictures are relative to.
        train: Questions that the constants are fitted on; those the run was tuned on when left out.
        also: NAME=FILE, answers of another contender, or tracks that a geometry tool measured; again for more.
        out: Folder for answers and score.json; RUN/score-BENCH when left out.
        size: Longest side of the frames before the model's own processor has its say; as it was tuned when 0.
        device: cpu, cuda or mps; the best there is when left out.
        threads: CPU threads.
        batch: Questions at a time.
        tokens: Longest answer.
        seed: Of the bootstrap over clips.
        endpoint: Address of a server with OpenAI's chat completions in place of --model; a key is read from
            SACCADE_API_KEY or OPENAI_API_KEY.
        endpoint_model: Its name for the model.
        restart: Throw earlier answers away.
        trust_remote_code: Run code that comes with a base, a tuned run's too.
        allow_address: Fetch a base that a tuned run names by its hub id.
        json: Print one JSON object.
    """
    from saccade.errors import ConfigError
    from saccade.vlm import Endpoint, is_run, open_answerer
    from saccade.vlm.compare import compare_answers, training_questions

    if bool(model) == bool(endpoint):
        raise ConfigError("say what to measure: --model RUN or --endpoint URL, and not both")
    others = contenders(also)
    if train is None and endpoint:
        raise ConfigError(
            "name the training questions with --train, which the constant baseline is fitted on"
        )
    fitted_on = train or training_questions(model)
    adapter, untuned = None, None
    facts: dict[str, Any] = {"size": size, "tokens": tokens, "labels": bool(labels)}
    if endpoint:
        answers = Endpoint(endpoint, endpoint_model, size=size or 448, max_new_tokens=tokens)
        facts["endpoint"] = answers.url
        folder = out or Path(f"score-{bench.stem}")
    else:
        import torch

        from saccade.trust import trusting

        if threads:
            torch.set_num_threads(threads)
        how: dict[str, Any] = {"device": device, "max_new_tokens": tokens}
        with trusting(code=trust_remote_code, address=allow_address):
            answers = open_answerer(model, size=size, **how)
        adapter = answers.adapter
        tuned = answers.model.options
        if is_run(model):

            def open_base():
                answers.model.to("cpu")  # two large models need not lie side by side
                with trusting(code=trust_remote_code, address=allow_address):
                    base = open_answerer(
                        answers.adapter.base, size=answers.adapter.size, dtype=tuned.dtype, **how
                    )
                return base, base.adapter

            untuned = open_base
            place = Path(model)
            folder = out or (place if place.is_dir() else place.parent) / f"score-{bench.stem}"
        else:
            folder = out or Path("runs") / f"score-{bench.stem}-{Path(model).name}"
    with show.progress() as bar:
        tasks: dict[str, Any] = {}

        def progress(who: str, done: int, total: int) -> None:
            if who not in tasks:
                tasks[who] = bar.add_task(who, total=total, info="")
            bar.update(tasks[who], completed=done)

        found = compare_answers(
            answers, adapter, bench, folder, train=fitted_on, untuned=untuned, others=others, labels=labels,
            pictures=pictures, batch=batch, seed=seed, restart=restart, settings=facts, progress=progress,
        )  # fmt: skip
    if json:
        show.result({"out": str(folder), **found.to_dict()}, as_json=True)
        return
    from saccade.cli.kinematics_score import score_row

    show.rows(found.table(), as_json=False, title="per cent right, with 95 % intervals over clips")
    show.rows([score_row(task) for task in found.score.tasks], as_json=False, title="the model")
    for note in found.notes:
        show.note(note)
    show.note(f"answers and all numbers are in {folder}")


def contenders(also: tuple[str, ...]) -> dict[str, Path]:
    """Read NAME=FILE, one or several.

    Raises:
        ConfigError: Another form.
    """
    from saccade.errors import ConfigError

    others: dict[str, Path] = {}
    for text in also:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise ConfigError(f"--also is {text!r}; expected NAME=FILE, such as geometry=answers.jsonl")
        others[name] = Path(file)
    return others
