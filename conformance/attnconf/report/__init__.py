"""What a run looks like: in the terminal, as a failure message, as a picture."""
