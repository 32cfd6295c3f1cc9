"""The front door: the HTTP API, version 1 (CONTRACT.md), and other systems' alerts translated into ours."""
