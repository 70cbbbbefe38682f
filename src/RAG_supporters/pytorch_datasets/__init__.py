"""Re-exports of `jasper_rag.data`: the steering dataset and its loaders."""

from __future__ import annotations

from jasper_rag.data.loader import create_loader as create_loader
from jasper_rag.data.loader import set_epoch as set_epoch
from jasper_rag.data.loader import validate_first_batch as validate_first_batch
from jasper_rag.data.steering_dataset import JASPERSteeringDataset as JASPERSteeringDataset
