"""Flags of `jasper train-encoder`; what each is without it stands in the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jasper_rag.cli import options

TrainData = Annotated[str, typer.Option("--train-data", help="Pairs: JSON list of query, positive, negative.")]
ValData = Annotated[
    str | None, typer.Option("--val-data", help="Pairs that choose the best model. [default: none, the last one]")
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", parser=options.named_path, metavar="<path>", help="Folder to write. [default: checkpoints]"
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option("--base-model", help="Name or folder. [default: $JASPER_BASE_MODEL, else EmbeddingGemma]"),
]
ModelPath = Annotated[str | None, typer.Option("--model-path", help="Checkpoint to train on from.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --output-dir.")]
ResumeFrom = Annotated[Path | None, typer.Option("--resume-from", help="Go on from this checkpoint_epoch_N.pt.")]
OutputDim = Annotated[int | None, typer.Option("--output-dim", min=1, help="Width of an embedding. [default: 512]")]
FreezeBase = Annotated[
    bool, typer.Option("--freeze-base", help="Train the head alone; the base's vectors are computed once.")
]
FreezeEarlyLayers = Annotated[bool, typer.Option("--freeze-early-layers", help="Freeze the base's first 4 layers.")]
NoNormalizeEmbeddings = Annotated[
    bool, typer.Option("--no-normalize-embeddings", help="The head sees the base's vectors as long as they are.")
]
MaxSeqLength = Annotated[
    int | None, typer.Option("--max-seq-length", min=3, help="Tokens read of a text. [default: the base's limit]")
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the pairs.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Pairs a pass. [default: 8, 512 over a frozen base]")
]
GradientAccumulationSteps = Annotated[
    int,
    typer.Option("--gradient-accumulation-steps", min=1, help="Batches a step, each other's negatives all of them."),
]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", help="AdamW. [default: 2e-5, 5e-4 over a frozen base]")
]
BaseLearningRate = Annotated[
    float | None, typer.Option("--base-learning-rate", help="Of the base. [default: --learning-rate]")
]
ProjectionLearningRate = Annotated[
    float | None, typer.Option("--projection-learning-rate", help="Of the head. [default: --learning-rate]")
]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="AdamW weight decay.")]
WarmupSteps = Annotated[
    int, typer.Option("--warmup-steps", min=0, help="Optimiser steps; cut where the run is shorter.")
]
Loss = Annotated[
    str, typer.Option("--loss", help="infonce or margin; auto: margin where --margin is given, else infonce.")
]
Margin = Annotated[float | None, typer.Option("--margin", help="Of the margin loss. [default: 1.0]")]
Temperature = Annotated[float, typer.Option("--temperature", help="Of InfoNCE.")]
LambdaContrastive = Annotated[float, typer.Option("--lambda-contrastive", help="Weight.")]
LambdaIsotropy = Annotated[float, typer.Option("--lambda-isotropy", help="Weight.")]
LambdaReg = Annotated[float, typer.Option("--lambda-reg", help="Weight of (std - 1)^2.")]
LambdaPredictive = Annotated[float, typer.Option("--lambda-predictive", help="Weight; needs --use-predictor.")]
UsePredictor = Annotated[bool, typer.Option("--use-predictor", help="Predict from a query where its document lies.")]
NoStopgrad = Annotated[bool, typer.Option("--no-stopgrad", help="Let the predictive term move documents too.")]
Isotropy = Annotated[str, typer.Option("--isotropy", help="closed, sliced or covariance.")]
QueueSize = Annotated[
    int | None,
    typer.Option("--queue-size", min=0, help="Earlier embeddings isotropy is judged with. [default: up to 1,024]"),
]
MixedPrecision = Annotated[bool, typer.Option("--mixed-precision", help="bfloat16, or float16, on a GPU.")]
GradientCheckpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")]
SaveInterval = Annotated[int, typer.Option("--save-interval", min=1, help="Epochs between checkpoints.")]
LogInterval = Annotated[int, typer.Option("--log-interval", min=1, help="Steps between figures.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:N or mps. [default: a GPU if any]")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same numbers on a CPU.")]
