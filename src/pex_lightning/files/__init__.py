"""Files on this machine: caches, locks, downloads, and the one safe reader of torch's files."""
