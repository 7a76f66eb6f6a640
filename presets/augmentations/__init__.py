"""Facts and numbers, no code: see `tltool._presets`."""
