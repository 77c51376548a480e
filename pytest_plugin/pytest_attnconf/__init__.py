"""The pytest plugin of attnconf. Loading it costs nothing: no torch, no attnconf internals."""
