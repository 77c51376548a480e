"""sglang's own attention backend classes, with the metadata that they build. Importing this imports no sglang."""
