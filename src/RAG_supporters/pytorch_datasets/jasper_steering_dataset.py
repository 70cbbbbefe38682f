"""Re-exports of `jasper_rag.data.steering_dataset`."""

from __future__ import annotations

from jasper_rag.data.steering_dataset import JASPERSteeringDataset as JASPERSteeringDataset
