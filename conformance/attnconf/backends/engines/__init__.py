"""Engines: the attention backends of serving engines, with the engines' own metadata builders."""
