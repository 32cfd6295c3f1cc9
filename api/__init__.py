"""The front door: the HTTP API, version 1 (docs/api.md), and other systems' alerts translated into ours."""
