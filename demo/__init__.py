"""The main job on one machine: local receivers, an example configuration, real-shaped alerts, and what came of them."""
