"""The README of an export: what it is, how to use it, and how far it is from the model it was made of."""

from __future__ import annotations

from collections.abc import Mapping

from jasper_rag.export.query_map import QueryMap

_HEADER = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- feature-extraction
- sentence-similarity
- jasper-rag
---
"""

_USES = {
    "sentence-transformers": """## sentence-transformers

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
search = model.encode_query(["your question"])
documents = model.encode_document(["a document"])   # the plain encoder; `encode` does the same
```

Stock modules of sentence-transformers 6 or newer: no other package and no `trust_remote_code`. Blend and gate are part
of the query side. It is for asking, not for training further, and stays in float32.
""",
    "numpy": """## numpy

```python
from jasper_predictor import Predictor

search = Predictor().transform(questions)   # float32 [n, {dimension}] of the encoder in, unit rows out
```

Needs `numpy` and `safetensors`; `jasper_predictor.py` is meant to be read and copied.
""",
    "onnx": """## ONNX

```python
import onnxruntime

session = onnxruntime.InferenceSession("predictor.onnx")
search = session.run(["search"], {{"query": questions}})[0]   # float32 [n, {dimension}], n >= 1
```
""",
}


def model_card(name: str, exported: QueryMap, differences: Mapping[str, float]) -> str:
    """Markdown, made without asking anyone.

    Args:
        name: Of the data set.
        exported: What was exported.
        differences: Format -> largest difference found.
    """
    identity = exported.identity
    gate = "open for every question"
    if exported.gate is not None:
        gate = f"closed below a familiarity of {exported.gate.low:.3f}, fully open from {exported.gate.high:.3f}"
    header = _HEADER if "sentence-transformers" in differences else ""
    rows = "\n".join(f"| {key} | {value:.1e} |" for key, value in differences.items())
    uses = "\n".join(_USES[key].format(dimension=exported.dimension) for key in _USES if key in differences)
    return f"""{header}# Search vectors for {name}

From the embedding of a question to the vector to search with, learnt by JASPER-RAG from questions with known answers.
The vectors of the documents are those of the plain encoder: nothing in a vector database changes.

- Encoder: {identity.name}, {identity.dimension} dimensions, weights {identity.weights_sha256[:12] or "unknown"}
- Prompts: query {identity.query_prompt!r}, document {identity.document_prompt!r}
- Blend of question and prediction: a = {exported.alpha:g}{" (the plain encoder)" if exported.alpha == 0 else ""}
- Familiarity gate: {gate}

    final = normalise((1 - s) q + s p),   p = normalise(q M),   s = a * gate(q)

| format | largest difference from JASPER-RAG |
|---|---|
{rows}

{uses}"""
