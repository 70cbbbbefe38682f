"""`jasper evaluate-encoder`: a trained Gaussian encoder beside its base model, BM25 and their fusion."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from jasper_rag.cli import console, options, tables
from jasper_rag.errors import InputError

_COLUMNS = ("NDCG@10", "Recall@1", "Recall@10", "Recall@100", "MRR", "MAP@100")


_GEOMETRY = {
    "isotropy_score": "isotropy score (1: all directions alike)",
    "effective_rank": "effective rank",
    "uniformity": "uniformity (lower: more even)",
    "mean_cosine": "mean cosine (0: no common direction)",
    "hubness@10": "hubness@10 (0: none)",
    "embedding_std": "standard deviation",
    "alignment": "alignment (0: pairs coincide)",
    "mean_positive_distance": "mean distance of pairs",
}

OutputFile = Annotated[
    Path | None,
    typer.Option("--output-file", parser=options.named_path, metavar="<path>", help="JSON file of all figures."),
]
PerQuery = Annotated[
    Path | None,
    typer.Option(
        "--per-query",
        parser=options.named_path,
        metavar="<path>",
        help="Results query by query: .jsonl, or .trec for a TREC run.",
    ),
]
OutputDim = Annotated[
    int | None, typer.Option("--output-dim", min=1, help="Expected dimension. [default: the checkpoint's own]")
]
BaseModel = Annotated[
    str | None, typer.Option("--base-model", help="Where the base model lies. [default: where the checkpoint says]")
]


def evaluate_encoder(
    model_path: Annotated[Path, typer.Option("--model-path", help="Checkpoint, such as best_model.pt.")],
    test_data: Annotated[Path, typer.Option("--test-data", help="test_eval.json, or a BEIR directory.")],
    split: Annotated[str, typer.Option("--split", help="Of a BEIR directory.")] = "test",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Texts per forward pass.")] = 32,
    top_k: Annotated[
        int, typer.Option("--top-k", min=1, help="Documents ranked per query, as far as MRR looks.")
    ] = 100,
    output_file: OutputFile = None,
    per_query: PerQuery = None,
    output_dim: OutputDim = None,
    base_model: BaseModel = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, mps. [default: a GPU if there is one]")
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Of BM25's stemmer; `none` for none.")] = "english",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of intervals and tests.")] = 0,
    offline: options.Offline = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a trained encoder: Recall@K, MRR, NDCG@10, MAP@100, with its base model and BM25 beside it.

    Says whether the difference to the base may be chance, and how the embeddings lie in their space.

    Example:  jasper evaluate-encoder --model-path checkpoints/best_model.pt --test-data data/processed/test_eval.json
    """
    _require_places(output_file, per_query)
    config = {
        "model_path": str(model_path),
        "test_data": str(test_data),
        "split": split,
        "batch_size": batch_size,
        "top_k": top_k,
        "output_file": None if output_file is None else str(output_file),
        "per_query": None if per_query is None else str(per_query),
        "output_dim": output_dim,
        "base_model": base_model,
        "device": device,
        "language": language,
        "seed": seed,
    }
    with console.talking(quiet):
        result = _evaluated(config, per_query, offline=offline)
        if output_file is not None:
            from jasper_rag.atomic_files import write_json

            write_json(output_file, result)
    if as_json:
        console.put_json(result)
    else:
        _show(result)
    for path in (output_file, per_query):
        if path is not None:
            console.say(f"wrote {path}", quiet=quiet)
    console.say(f"\nnext:\n  {_next(result, model_path)}", quiet=quiet)


def _require_places(output_file: Path | None, per_query: Path | None) -> None:
    """Refuse what could not be written in the end, before anything is loaded."""
    from jasper_rag.atomic_files import require_writable

    for path in (output_file, per_query):
        if path is not None:
            require_writable(path.parent)
            if path.is_dir():
                raise InputError("is a folder.", path=path, remedy="Name a file.")
    if per_query is not None:
        from jasper_rag.evaluation.encoder_evaluation import require_per_query

        require_per_query(per_query)


def _evaluated(config: dict[str, Any], per_query: Path | None, *, offline: bool) -> dict[str, Any]:
    from jasper_rag.evaluation.encoder_task import read_task

    # What can be refused at once comes first: models take seconds to import and to load.
    remedy = "Give best_model.pt of a training run; scripts/train.py makes one."
    options.require_checkpoint(config["model_path"], remedy)
    task = read_task(config["test_data"], config["split"])

    from jasper_rag.embedding.embedding_store import EmbeddingStore
    from jasper_rag.embedding.gaussian_encoder import GaussianEmbeddingGemma
    from jasper_rag.evaluation.encoder_evaluation import evaluate_encoder as evaluate

    model = GaussianEmbeddingGemma.from_pretrained(
        config["model_path"], config["base_model"], config["device"], output_dim=config["output_dim"], offline=offline
    )
    found = evaluate(
        model,
        task,
        batch_size=config["batch_size"],
        top_k=config["top_k"],
        language=config["language"],
        store=EmbeddingStore(),
        seed=config["seed"],
    )
    if per_query is not None:
        found.write_per_query(per_query)
    about = {"model_path": config["model_path"], "test_data": config["test_data"]}
    return {**about, **found.to_json(), "config": {**config, "output_dim": model.output_dim, **_base_of(model)}}


def _base_of(model: Any) -> dict[str, str]:
    return {"base_model": model.base_identity.name, "device": str(model.device)}


def _show(result: dict[str, Any]) -> None:
    from jasper_rag.evaluation.encoder_systems import ENCODER_SYSTEMS

    print(f"{tables.plain(result['task'])}: {result['queries']:,} queries, {result['documents']:,} documents")
    systems = {"model": result["metrics"], **result["baselines"]}
    rows = []
    for key, name in ENCODER_SYSTEMS.items():
        p_value = result["significance"][key]["p_value"] if key != "model" else None
        figures = [f"{systems[key][column]:.3f}" for column in _COLUMNS]
        rows.append([name, *figures, "" if p_value is None else f"{p_value:.4f}"])
    tables.put_table(["system", *_COLUMNS, "p vs model"], rows)
    _show_geometry(result["geometry"])
    print(f"\n{result['verdict']}")


def _show_geometry(shapes: dict[str, dict[str, float]]) -> None:
    if not shapes["model"]:
        return
    print()
    rows = [
        [said, *(f"{shapes[system][name]:.3f}" for system in ("model", "base"))]
        for name, said in _GEOMETRY.items()
        if name in shapes["model"]
    ]
    tables.put_table(["embeddings", "this model", "base"], rows)


def _next(result: dict[str, Any], model_path: Path) -> str:
    from jasper_rag.evaluation.verdict import SIGNIFICANT

    tested = result["significance"]["base"]
    if tested["p_value"] < SIGNIFICANT and tested["difference"] < 0:
        frozen = "--freeze_base --projection_learning_rate 5e-4"
        return f"{console.call_of('train-encoder')} {frozen}   (the base stays as it is)"
    return f"jasper fit --data DIR --encoder {shlex.quote(str(model_path))} --output-dir runs/gaussian"
