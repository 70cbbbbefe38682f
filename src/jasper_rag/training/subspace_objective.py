"""The loss of the subspace model: that of a plain predictor, and what its router learns by.

    total = base(prediction) + routing(decomposition)          the same sum in training and in validation

Entropy and disentanglement look at softmax(z / T), the weights that the model routes with once it is trained, not at
the Gumbel sample: a sample of low temperature is nearly one-hot whatever z is, so its entropy tells of the temperature
and not of the router, and it would make the term in training another one than in validation. The coarse part, and with
it the length of the fine one, is that of the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jasper_rag.data.batch import Batch
from jasper_rag.losses.routing_objective import RoutingObjective
from jasper_rag.models.decomposed_predictor import Decomposition
from jasper_rag.models.subspace_predictor import SubspacePredictor
from jasper_rag.training.objective import Objective

_OFFERED = 3
"""A topic counts as offered among so many."""


class SubspaceObjective(Objective):
    """`Objective` of a prediction and `RoutingObjective` of the parts it is made of, as one sum.

    Two stages: in the first `anchor_epochs` only the router learns, and only by its own losses; the base losses are
    part of the total without gradient. After that the rest learns too, and the router stays as it is if it is frozen.

    Args:
        *parts: Of `Objective`.
        model: What is trained; its router's temperature follows the steps.
        routing: Losses of the router.
        anchor_epochs: Epochs of the first stage.
        freeze_router: Whether the router stays as it is in the second.
    """

    def __init__(
        self,
        *parts: Any,
        model: SubspacePredictor,
        routing: RoutingObjective,
        anchor_epochs: int = 0,
        freeze_router: bool = False,
    ) -> None:
        super().__init__(*parts)
        self.model = model
        self.routing = routing
        self.anchor_epochs = anchor_epochs
        self.freeze_router = freeze_router
        # Held by the validation's copy too.
        self._course = {"epoch": 0}

    def asked(self, model: nn.Module) -> Callable[..., Any]:
        """The decomposition, every part with gradient."""
        assert isinstance(model, SubspacePredictor)
        return model.decompose

    def begin_epoch(self, epoch: int) -> None:
        """Say which of the two stages it is: what does not learn in it asks for no gradient."""
        super().begin_epoch(epoch)
        self._course["epoch"] = epoch
        anchoring = epoch < self.anchor_epochs
        self.model.requires_grad_(not anchoring)
        self.model.router.requires_grad_(anchoring or not self.freeze_router)

    def begin_step(self, step: int, steps: int) -> None:
        """Lower the temperature of the samples."""
        self.model.router.temperature = self.model.router.temperature_at(step, steps)

    def figures(self, step: int, steps: int) -> dict[str, float]:
        """The temperature after `step` steps."""
        return {"router_temperature": self.model.router.temperature_at(step, steps)}

    def measured(self, model: nn.Module, found: Any, batch: Batch) -> dict[str, Tensor]:
        """Accuracy of the router without steering, which is made from the answer's topic; with it, under its own name.

        "routing_acc" and "routing_acc@3" know the question alone; "routing_acc_steered" is of the steering that the
        batch was drawn with.
        """
        assert isinstance(model, SubspacePredictor)
        clusters, weight = batch["cluster_id"], batch.get("relevance")
        unsteered = model.router(batch["question_emb"], None, False, centroids=model.centroids)[1]
        first = unsteered.topk(min(_OFFERED, model.num_subspaces), dim=1).indices
        offered = (first == clusters.unsqueeze(1)).any(dim=1).to(torch.float32)
        return {
            **super().measured(model, found.prediction, batch),
            "routing_acc": self.routing.routing(unsteered, clusters, sample_weight=weight)["routing_acc"],
            "routing_acc@3": offered.mean(),
            "routing_acc_steered": self.routing.routing(found.concept_logits, clusters, sample_weight=weight)[
                "routing_acc"
            ],
        }

    def state_dict(self) -> dict[str, Any]:
        """Epoch and K, on which the target of the entropy depends."""
        return {**self._course, "routing": self.routing.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            RuntimeError: It is of another K.
        """
        self._course["epoch"] = int(state["epoch"])
        self.routing.load_state_dict(state["routing"])

    def __call__(self, predicted: Decomposition, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Total, with gradient, and its parts, without.

        Args:
            predicted: What `asked` gave for the batch.
            batch: Its documented keys.
        """
        epoch = self._course["epoch"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and epoch >= self.anchor_epochs):
            base, parts = super().__call__(predicted.prediction, batch)
        routed, numbers = self.routing(
            predicted.concept_logits,
            self.model.router.probabilities(predicted.concept_logits),
            predicted.fine,
            batch["cluster_id"],
            epoch,
            sample_weight=batch.get("relevance"),
        )
        return base + routed, {**parts, **numbers}
