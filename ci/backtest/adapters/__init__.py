"""A module a kernel: ``make(release)`` returns a backend around the release's own code, called directly."""
