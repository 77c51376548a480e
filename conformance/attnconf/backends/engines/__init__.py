"""Engines: the attention backends of serving engines, through the engines' own metadata builders."""
