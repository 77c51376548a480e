"""Running: many cases, in sessions, explorations, campaigns and replays."""
