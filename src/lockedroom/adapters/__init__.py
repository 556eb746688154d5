"""Thin shapes around the lab for other projects; any of them, and the folder, can be deleted with one `rm -r`."""
