"""The command line, ``attnconf COMMAND``: one file a command."""
