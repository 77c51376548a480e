"""sglang's own attention backend classes, with the metadata that they build. This does not import sglang."""
